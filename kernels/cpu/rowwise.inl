#pragma once

#include <cmath>

#include "cpu/kv_encode.inl"
#include "cpu/rowwise.h"
#include "cpu/vec_math.inl"

namespace kvs::cpu {
namespace {

// Adds x into the row where it is set, and returns the sum of squares. Sums stand in four vectors,
// taken in turn, and are reduced in one order.
inline float AddAndSumSquares(float* residual, const float* x, uint32_t dim) {
  Vec::Float sums[4] = {Vec::Zero(), Vec::Zero(), Vec::Zero(), Vec::Zero()};
  for (uint32_t i = 0, turn = 0; i < dim; i += Vec::kWidth, turn = (turn + 1) % 4) {
    const uint32_t n = dim - i < Vec::kWidth ? dim - i : Vec::kWidth;
    Vec::Float value = Vec::LoadN(residual + i, n);
    if (x != nullptr) {
      value = Vec::Add(value, Vec::LoadN(x + i, n));
      Vec::StoreN(residual + i, value, n);
    }
    sums[turn] = Vec::Fma(value, value, sums[turn]);
  }
  return Vec::ReduceAdd(Vec::Add(Vec::Add(sums[0], sums[1]), Vec::Add(sums[2], sums[3])));
}

inline void AddRmsNormRow(float* residual, const float* x, const float* weight, float* out,
                          uint32_t dim, float eps) {
  const float sum = AddAndSumSquares(residual, x, dim);
  const float inverse = 1.0f / std::sqrt(sum / static_cast<float>(dim) + eps);
  for (uint32_t i = 0; i < dim; ++i) out[i] = residual[i] * inverse * weight[i];
}

inline void SiluMulRow(const float* gate, const float* up, float* out, size_t dim) {
  const Vec::Float one = Vec::Set1(1.0f);
  for (size_t i = 0; i < dim; i += Vec::kWidth) {
    const uint32_t n = dim - i < Vec::kWidth ? static_cast<uint32_t>(dim - i) : Vec::kWidth;
    const Vec::Float x = Vec::LoadN(gate + i, n);
    const Vec::Float e = Exp(Vec::Sub(Vec::Zero(), x));
    const Vec::Float silu = Vec::Div(x, Vec::Add(one, e));
    Vec::StoreN(out + i, Vec::Mul(silu, Vec::LoadN(up + i, n)), n);
  }
}

inline void RotateHead(float* head, const float* cos_sin, uint32_t half) {
  for (uint32_t i = 0; i < half; ++i) {
    const float a = head[i];
    const float b = head[half + i];
    head[i] = a * cos_sin[i] - b * cos_sin[half + i];
    head[half + i] = b * cos_sin[i] + a * cos_sin[half + i];
  }
}

inline constexpr RowwiseKernels kRowwiseKernels = {
    .add_rms_norm = &AddRmsNormRow,
    .silu_mul = &SiluMulRow,
    .rotate = &RotateHead,
    .encode_kv = &EncodeKv,
};

}  // namespace
}  // namespace kvs::cpu
