// The one place that knows whether this is CUDA or HIP: names of the run time, of 16-bit types and
// of what the two spell differently in device code. Host files include it too.
#pragma once

#if defined(__HIP__) || defined(KVS_HIP)
#include <hip/hip_bf16.h>
#include <hip/hip_fp16.h>
#include <hip/hip_runtime.h>
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#endif

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "kvserve/float_bits.h"

#if defined(__HIP__) || defined(KVS_HIP)
#define KVS_GPU_NAME(name) hip##name
#else
#define KVS_GPU_NAME(name) cuda##name
#endif

namespace kvs::gpu {

using Stream = KVS_GPU_NAME(Stream_t);
using Event = KVS_GPU_NAME(Event_t);
using Error = KVS_GPU_NAME(Error_t);
using Graph = KVS_GPU_NAME(Graph_t);
using GraphExec = KVS_GPU_NAME(GraphExec_t);
inline constexpr Error kSuccess = KVS_GPU_NAME(Success);

#if defined(__HIP__) || defined(KVS_HIP)
using Bf16 = __hip_bfloat16;
#else
using Bf16 = __nv_bfloat16;
#endif
using F16 = __half;

inline constexpr uint32_t kWarpSize = 32;

[[noreturn]] inline void Fail(const char* file, int line, const char* call, Error error) {
  std::fprintf(stderr, "%s:%d: %s: %s (%s)\n", file, line, call,
               KVS_GPU_NAME(GetErrorString)(error), KVS_GPU_NAME(GetErrorName)(error));
  std::fflush(stderr);
  std::abort();
}

}  // namespace kvs::gpu

// A fault of the device ends the process (backend.h). `call` is without the run time's prefix:
// KVS_GPU(StreamSynchronize(stream)).
#define KVS_GPU(call)                                             \
  do {                                                            \
    const ::kvs::gpu::Error kvs_gpu_error = KVS_GPU_NAME(call);   \
    if (kvs_gpu_error != ::kvs::gpu::kSuccess)                    \
      ::kvs::gpu::Fail(__FILE__, __LINE__, #call, kvs_gpu_error); \
  } while (false)

#if defined(__CUDACC__) || defined(__HIP__)
#define KVS_DEVICE __device__ __forceinline__

// A kernel parameter that is read through references without being copied to every thread's stack.
#if defined(__HIP__)
#define KVS_GRID_CONSTANT
#else
#define KVS_GRID_CONSTANT __grid_constant__
#endif

// Whether this compilation's device converts FP8 in hardware. AMD's gfx94x does too, but to another
// FP8 (FNUZ).
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
#define KVS_HAS_FP8_CONVERT 1
#else
#define KVS_HAS_FP8_CONVERT 0
#endif

namespace kvs::gpu {

// Programmatic dependent launch (compute capability 9.0): a kernel may be resident before the one
// in front of it on the stream has finished. Every kernel of this folder calls, in every thread and
// in this order, WaitForPreviousKernel before its first access to memory that the kernel in front
// writes, and AllowNextKernel where its successor may start to take its place. So whatever an
// earlier kernel than that wrote, and what no kernel writes, may be read before. Elsewhere both do
// nothing.
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
#if defined(__HIP__)
  return __shfl_xor(value, static_cast<int>(mask), kWarpSize);
#else
  return __shfl_xor_sync(0xffffffffu, value, mask);
#endif
}

// The value of the lane `distance` below; lanes without one keep theirs.
template <class T>
KVS_DEVICE T ShuffleUp(T value, uint32_t distance) {
#if defined(__HIP__)
  return __shfl_up(value, distance, kWarpSize);
#else
  return __shfl_up_sync(0xffffffffu, value, distance);
#endif
}

// What the lanes of a warp have written before it, all of them see after it.
KVS_DEVICE void SyncWarp() {
#if defined(__HIP__)
  __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "wavefront");
  __builtin_amdgcn_wave_barrier();
#else
  __syncwarp();
#endif
}

KVS_DEVICE float ToFloat(Bf16 value) { return __bfloat162float(value); }
KVS_DEVICE float ToFloat(F16 value) { return __half2float(value); }
KVS_DEVICE float ToFloat(float value) { return value; }

template <class T>
KVS_DEVICE T FromFloat(float value);
template <>
KVS_DEVICE Bf16 FromFloat<Bf16>(float value) {
  return __float2bfloat16(value);
}
template <>
KVS_DEVICE F16 FromFloat<F16>(float value) {
  return __float2half(value);
}
template <>
KVS_DEVICE float FromFloat<float>(float value) {
  return value;
}

}  // namespace kvs::gpu
#endif
