// How a row of activations becomes FP8: code = E4M3(x / scale), rounded to nearest even, beyond 448
// clipped. Products of two codes are exact in 16 bits.
#pragma once

#include "gpu/kv_codec.cuh"
#include "gpu/vec.cuh"

namespace kvs::gpu {

struct RowScale {
  float scale, inverse;

  // `fixed` unless it is 0; else so that the row's largest magnitude becomes the largest code.
  KVS_DEVICE static RowScale Of(float fixed, float largest) {
    constexpr float kTiny = 1e-20f;  // a row of zeros
    const float scale = fixed != 0.0f ? fixed : fmaxf(largest, kTiny) / kF8E4M3Max;
    return {scale, 1.0f / scale};
  }
};

template <class T>
KVS_DEVICE float LargestMagnitude(const Vec8<T>& values) {
  float largest = 0;
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) largest = fmaxf(largest, fabsf(ToFloat(values[i])));
  return largest;
}

// Writes eight codes to `to`, 8-byte aligned.
template <class T>
KVS_DEVICE void QuantizeEight(const Vec8<T>& values, const RowScale& scale, uint8_t* to) {
  float scaled[8];
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) scaled[i] = ToFloat(values[i]) * scale.inverse;
  EncodeEight<KvF8E4M3>(scaled, to);
}

}  // namespace kvs::gpu
