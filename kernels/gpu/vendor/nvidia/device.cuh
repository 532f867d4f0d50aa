// Device code that NVIDIA and AMD spell differently; vendor/amd/device.cuh has the same names.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>
#include <cstring>

#define KVS_DEVICE __device__ __forceinline__

// A kernel parameter that is read through references without being copied to every thread's stack.
#define KVS_GRID_CONSTANT __grid_constant__

// Dynamic shared memory: T name[], aligned to `alignment` bytes.
#define KVS_DYNAMIC_SHARED(T, name, alignment) \
  extern __shared__ __align__(alignment)       \
  T name[]

namespace kvs::gpu {

// Programmatic dependent launch (compute capability 9.0): a kernel may be resident before those in
// front of it on the stream have finished. Every kernel of this folder calls, in every thread,
// WaitForPreviousKernel before its first access to memory that kernels write, and AllowNextKernel
// where its successor may start to take its place: mostly first of all. After the wait all kernels
// in front have ended, as each of them has waited itself. Before it only that may be read which no
// kernel since the last launch without Launch::dependent has written. Elsewhere both do nothing.
KVS_DEVICE void WaitForPreviousKernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

KVS_DEVICE void AllowNextKernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

template <class T>
KVS_DEVICE T ShuffleXor(T value, uint32_t mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}

// The value of the lane `distance` below; lanes without one keep theirs.
template <class T>
KVS_DEVICE T ShuffleUp(T value, uint32_t distance) {
  return __shfl_up_sync(0xffffffffu, value, distance);
}

// The value of lane `lane` of the warp.
template <class T>
KVS_DEVICE T ShuffleFrom(T value, uint32_t lane) {
  return __shfl_sync(0xffffffffu, value, static_cast<int>(lane));
}

// Whether it is true in any lane of the warp.
KVS_DEVICE bool AnyInWarp(bool value) { return __any_sync(0xffffffffu, value) != 0; }

// What the lanes of a warp have written before it, all of them see after it.
KVS_DEVICE void SyncWarp() { __syncwarp(); }

// What one block stores for another of the same launch, and how that one reads it: past the caches
// that they do not share, each word sooner or later, in any order.
KVS_DEVICE void StorePublished(uint4* at, uint4 value) {
  asm volatile("st.relaxed.gpu.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(at), "r"(value.x),
               "r"(value.y), "r"(value.z), "r"(value.w)
               : "memory");
}
KVS_DEVICE void StorePublished(uint2* at, uint2 value) {
  asm volatile("st.relaxed.gpu.global.v2.u32 [%0], {%1, %2};" ::"l"(at), "r"(value.x), "r"(value.y)
               : "memory");
}
KVS_DEVICE uint4 LoadPublished(const uint4* at) {
  uint4 value;
  asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(at)
               : "memory");
  return value;
}
KVS_DEVICE uint2 LoadPublished(const uint2* at) {
  uint2 value;
  asm volatile("ld.relaxed.gpu.global.v2.u32 {%0, %1}, [%2];"
               : "=r"(value.x), "=r"(value.y)
               : "l"(at)
               : "memory");
  return value;
}

// Bytes 2 half and 2 half + 1 as the upper bytes of two halves; zero below them. `half`, 0 or 1, is
// a constant once this is inlined.
KVS_DEVICE uint32_t BytesToUpper(uint32_t bytes, uint32_t half) {
  return __byte_perm(bytes, 0, half == 0 ? 0x1404 : 0x3424);
}

// `value`, of which the compiler knows nothing: what is computed from it inside a loop is not kept
// in registers from outside.
KVS_DEVICE uint32_t Opaque(uint32_t value) { return value; }

// `value`, which the compiler keeps in a register instead of computing it anew at each use.
KVS_DEVICE uint32_t Kept(uint32_t value) {
  asm volatile("" : "+r"(value));
  return value;
}

// `value`, which is the same in all lanes of a hardware wave.
KVS_DEVICE uint32_t WaveUniform(uint32_t value) { return value; }

#if defined(KVS_HIP)  // HIP's types on this device: the shim of tests/hip_on_cuda
KVS_DEVICE float ToFloat(Bf16 value) { return Bf16ToFloat(value.bits); }
KVS_DEVICE float ToFloat(F16 value) {
  __half half;
  memcpy(&half, &value, sizeof half);
  return __half2float(half);
}
KVS_DEVICE Bf16 ToBf16(float value) { return {FloatToBf16(value)}; }
KVS_DEVICE F16 ToF16(float value) {
  const __half half = __float2half(value);
  F16 out;
  memcpy(&out, &half, sizeof out);
  return out;
}
#else
KVS_DEVICE float ToFloat(Bf16 value) { return __bfloat162float(value); }
KVS_DEVICE float ToFloat(F16 value) { return __half2float(value); }
KVS_DEVICE Bf16 ToBf16(float value) { return __float2bfloat16(value); }
KVS_DEVICE F16 ToF16(float value) { return __float2half(value); }
#endif

}  // namespace kvs::gpu
