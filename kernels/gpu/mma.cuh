// Tensor-core primitives of one warp: 16-bit matrix products with float32 accumulators, and moves
// of 8x8 matrices of 16-bit elements between shared memory and fragments. All 32 lanes call them
// together. With g = lane / 4 and t = lane % 4, a register of a fragment holds two elements, the
// lower half first:
//
//   A [16 x 16]  a[0] (g, 2t..2t+1)  a[1] (g + 8, 2t..)  a[2] (g, 2t + 8..)  a[3] (g + 8, 2t + 8..)
//   B [16 x 8]   b0 (2t..2t+1, g)    b1 (2t + 8..2t + 9, g)
//   C [16 x 8]   c[0..1] (g, 2t..2t+1)    c[2..3] (g + 8, 2t..2t+1), float32
#pragma once

#include "gpu/gpu.h"

namespace kvs::gpu {

// Two values as one register of a fragment, rounded to nearest even.
template <class T>
KVS_DEVICE uint32_t Pack2(float low, float high);
template <>
KVS_DEVICE uint32_t Pack2<F16>(float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
template <>
KVS_DEVICE uint32_t Pack2<Bf16>(float low, float high) {
  const auto pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

#if defined(__CUDA_ARCH__)

// c += a * b. T is F16 or Bf16.
template <class T>
KVS_DEVICE void Mma16x8x16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

template <>
KVS_DEVICE void Mma16x8x16<F16>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <>
KVS_DEVICE void Mma16x8x16<Bf16>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

KVS_DEVICE uint32_t SharedAddress(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// Four 8x8 matrices from shared memory. Lane 8 * m + r names the first of the 8 elements of row r
// of matrix m, 16-byte aligned; out[m] holds (g, 2t..2t+1) of matrix m.
KVS_DEVICE void LoadMatrices(uint32_t (&out)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(SharedAddress(row))
               : "memory");
}

// As LoadMatrices, each matrix transposed: out[m] holds (2t..2t+1, g) of matrix m as it is stored.
KVS_DEVICE void LoadMatricesTransposed(uint32_t (&out)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(SharedAddress(row))
               : "memory");
}

// Transposes an 8x8 matrix held across the warp as (g, 2t..2t+1).
KVS_DEVICE uint32_t TransposeMatrix(uint32_t value) {
  uint32_t out;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(out) : "r"(value));
  return out;
}

#else  // The same by shuffles and plain loads.

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

#endif

}  // namespace kvs::gpu
