// See gpu/mma.cuh: the fragments of NVIDIA's instructions by shuffles and plain loads. Slow; what
// has to be fast on AMD uses matrix.cuh.
#pragma once

#include "gpu/gpu.h"

namespace kvs::gpu {

template <class T>
KVS_DEVICE uint32_t Pack2(float low, float high) {
  return __builtin_bit_cast(uint16_t, FromFloat<T>(low)) |
         static_cast<uint32_t>(__builtin_bit_cast(uint16_t, FromFloat<T>(high))) << 16;
}

KVS_DEVICE uint32_t FromLane(uint32_t value, uint32_t lane) {
  return __shfl(value, static_cast<int>(lane), kWarpSize);
}
KVS_DEVICE const uint16_t* FromLane(const void* value, uint32_t lane) {
  const auto bits = reinterpret_cast<unsigned long long>(value);
  return reinterpret_cast<const uint16_t*>(__shfl(bits, static_cast<int>(lane), kWarpSize));
}

template <class T>
KVS_DEVICE float Half(uint32_t pair, uint32_t upper) {
  const auto bits = static_cast<uint16_t>(pair >> (16 * upper));
  return ToFloat(*reinterpret_cast<const T*>(&bits));
}

template <class T>
KVS_DEVICE void Mma16x8x16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  const uint32_t lane = threadIdx.x % kWarpSize, g = lane / 4, t = lane % 4;
  for (uint32_t from = 0; from < 4; ++from) {
    uint32_t rows[4];
    for (uint32_t i = 0; i < 4; ++i) rows[i] = FromLane(a[i], 4 * g + from);
    for (uint32_t column = 0; column < 2; ++column) {
      const uint32_t low = FromLane(b0, 4 * (2 * t + column) + from);
      const uint32_t high = FromLane(b1, 4 * (2 * t + column) + from);
      for (uint32_t i = 0; i < 2; ++i) {
        c[column] += Half<T>(rows[0], i) * Half<T>(low, i) + Half<T>(rows[2], i) * Half<T>(high, i);
        c[2 + column] +=
            Half<T>(rows[1], i) * Half<T>(low, i) + Half<T>(rows[3], i) * Half<T>(high, i);
      }
    }
  }
}

KVS_DEVICE void LoadMatrices(uint32_t (&out)[4], const void* row) {
  const uint32_t lane = threadIdx.x % kWarpSize;
  for (uint32_t m = 0; m < 4; ++m) {
    const uint16_t* from = FromLane(row, 8 * m + lane / 4) + lane % 4 * 2;
    out[m] = *reinterpret_cast<const uint32_t*>(from);
  }
}

KVS_DEVICE void LoadMatricesTransposed(uint32_t (&out)[4], const void* row) {
  const uint32_t lane = threadIdx.x % kWarpSize;
  for (uint32_t m = 0; m < 4; ++m) {
    const uint32_t low = FromLane(row, 8 * m + lane % 4 * 2)[lane / 4];
    const uint32_t high = FromLane(row, 8 * m + lane % 4 * 2 + 1)[lane / 4];
    out[m] = low | high << 16;
  }
}

KVS_DEVICE uint32_t TransposeMatrix(uint32_t value) {
  const uint32_t lane = threadIdx.x % kWarpSize, g = lane / 4, t = lane % 4;
  const uint32_t low = FromLane(value, 4 * (2 * t) + g / 2);
  const uint32_t high = FromLane(value, 4 * (2 * t + 1) + g / 2);
  const uint32_t shift = g % 2 * 16;
  return (low >> shift & 0xffffu) | (high >> shift & 0xffffu) << 16;
}

}  // namespace kvs::gpu
