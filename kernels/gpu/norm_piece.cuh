// What RMSNorm multiplies eight neighbouring values of a row by.
#pragma once

#include "gpu/vec.cuh"

namespace kvs::gpu {

// Loaded apart from the values: a norm's weight depends on no kernel, so that it can be asked for
// before the one in front has ended.
struct NormPiece {
  float4 low, high;

  KVS_DEVICE static NormPiece Load(const float* weight, uint32_t piece) {
    const auto* from = reinterpret_cast<const float4*>(weight) + 2 * piece;
    return {from[0], from[1]};
  }
  // Rounds once.
  template <class T>
  KVS_DEVICE Vec8<T> Scale(const Vec8<T>& values, float factor) const {
    const float weights[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
    Vec8<T> out;
#pragma unroll
    for (uint32_t i = 0; i < 8; ++i) {
      out[i] = FromFloat<T>(ToFloat(values[i]) * factor * weights[i]);
    }
    return out;
  }
};

}  // namespace kvs::gpu
