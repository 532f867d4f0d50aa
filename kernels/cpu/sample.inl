#pragma once

#include "cpu/sample.h"
#include "cpu/vec_math.inl"

namespace kvs::cpu {
namespace {

inline constexpr float kInfinity = __builtin_inff();

inline bool ScanLogits(const float* x, uint32_t n, float* max) {
  // x - x is 0 for finite elements and NaN for the others; -infinity is allowed, so it is made
  // finite before.
  const Vec::Float lowest = Vec::Set1(-3.4028234663852886e38f);
  Vec::Float largest = Vec::Set1(-kInfinity);
  Vec::Float nan = Vec::Zero();
  uint32_t i = 0;
  for (; i + Vec::kWidth <= n; i += Vec::kWidth) {
    const Vec::Float value = Vec::Load(x + i);
    largest = Vec::Max(largest, value);
    const Vec::Float bounded = Vec::Max(lowest, value);
    nan = Vec::Add(nan, Vec::Sub(bounded, bounded));
  }
  float result = Vec::ReduceMax(largest);
  bool valid = Vec::ReduceAdd(nan) == 0.0f;
  for (; i < n; ++i) {
    valid = valid && x[i] < kInfinity;  // false for NaN
    result = x[i] > result ? x[i] : result;
  }
  *max = result;
  return valid && result > -kInfinity;
}

// Calls chunk(index, sum) for each kSumChunk elements, with exp(x[i] - max) summed in one order;
// stores the exponentials where `out` is set.
template <class Chunk>
void ForEachExpChunk(const float* x, uint32_t n, float max, float* out, const Chunk& chunk) {
  const Vec::Float max_vec = Vec::Set1(max);
  for (uint32_t begin = 0; begin < n; begin += kSumChunk) {
    const uint32_t end = n - begin < kSumChunk ? n : begin + kSumChunk;
    Vec::Float sum = Vec::Zero();
    uint32_t i = begin;
    for (; i + Vec::kWidth <= end; i += Vec::kWidth) {
      const Vec::Float e = Exp(Vec::Sub(Vec::Load(x + i), max_vec));
      sum = Vec::Add(sum, e);
      if (out != nullptr) Vec::Store(out + i, e);
    }
    if (i < end) {
      float tail[Vec::kWidth] = {};
      Vec::Store(tail, Exp(Vec::Sub(Vec::LoadN(x + i, end - i), max_vec)));
      const Vec::Float e = Vec::LoadN(tail, end - i);  // zero past the end
      sum = Vec::Add(sum, e);
      if (out != nullptr) Vec::StoreN(out + i, e, end - i);
    }
    chunk(begin / kSumChunk, double{Vec::ReduceAdd(sum)});
  }
}

inline double SumExp(const float* x, uint32_t n, float max) {
  double total = 0;
  ForEachExpChunk(x, n, max, nullptr, [&](uint32_t, double sum) { total += sum; });
  return total;
}

inline void ExpInPlace(float* x, uint32_t n, double* chunk_sums) {
  ForEachExpChunk(x, n, 0.0f, x, [&](uint32_t chunk, double sum) { chunk_sums[chunk] = sum; });
}

inline constexpr SampleKernels kSampleKernels = {
    .scan = &ScanLogits,
    .sum_exp = &SumExp,
    .exp_in_place = &ExpInPlace,
};

}  // namespace
}  // namespace kvs::cpu
