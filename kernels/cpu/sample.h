// Sample: one token from one row of logits, as SampleRow says. A row is one thread's work from end
// to end, so that its result depends on the row alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/thread_pool.h"
#include "kvserve/backend.h"

namespace kvs::cpu {

inline constexpr uint32_t kSumChunk = 256;  // elements summed in float32 before joining a double

struct SampleKernels {
  // False when an element is NaN or +infinity, or all are -infinity; else *max is the largest.
  bool (*scan)(const float* x, uint32_t n, float* max);
  // Sum of exp(x[i] - max).
  double (*sum_exp)(const float* x, uint32_t n, float max);
  // x[i] = exp(x[i]); chunk_sums[c] = the sum over [c * kSumChunk, (c + 1) * kSumChunk).
  void (*exp_in_place)(float* x, uint32_t n, double* chunk_sums);
};

class SampleOp {
 public:
  explicit SampleOp(const SampleKernels& kernels) : kernels_(kernels) {}

  Result<void> Reserve(uint32_t vocab_size, uint32_t num_threads);
  void Run(const SampleParams& params, ThreadPool& pool);

 private:
  struct Candidate {
    float logit;
    uint32_t id;
  };
  // Memory of one thread.
  struct Scratch {
    Candidate* candidates;  // [vocab_size]
    float* logits;          // [vocab_size]
    double* chunk_sums;     // [ceil(vocab_size / kSumChunk)]
  };

  // The candidate order: larger logits first, then lower ids.
  static bool Before(const Candidate& a, const Candidate& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
  }
  static uint32_t SelectTop(const float* x, uint32_t n, uint32_t k, Candidate* out);
  static uint32_t DrawFrom(const Candidate* candidates, uint32_t n, double top_p_mass,
                           double uniform);
  void RunRow(const SampleRow& row, float* logits, uint32_t n, const Scratch& scratch,
              SampleResult* result) const;
  TokenId Choose(const SampleRow& row, float* x, uint32_t n, const Scratch& scratch) const;
  uint32_t Draw(const SampleRow& row, float* x, uint32_t n, const Scratch& scratch) const;
  uint32_t DrawTopP(double top_p, double uniform, const float* x, uint32_t n,
                    Candidate* candidates) const;
  uint32_t DrawAny(double uniform, float* x, uint32_t n, double* chunk_sums) const;
  void FillLogprobs(const SampleRow& row, const float* raw, uint32_t n, float max,
                    Candidate* candidates, SampleResult* result) const;

  const SampleKernels& kernels_;
  DeviceBuffer memory_;
  std::vector<Scratch> scratch_;  // [num_threads]
};

}  // namespace kvs::cpu
