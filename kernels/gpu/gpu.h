// The one place that knows whether this is CUDA or HIP, and whose device instructions are compiled.
// It chooses between the folders of vendor/, which offer the same names:
//
//   vendor/cuda, vendor/hip      the run time: types, errors, launches. CMake chooses HIP by
//   KVS_HIP. vendor/nvidia, vendor/amd    device code: shuffles, copies, matrix instructions
//
// Host files include this header too; they see no device code.
#pragma once

#if defined(__HIP__) || defined(KVS_HIP)
#include "gpu/vendor/hip/runtime.h"
#else
#include "gpu/vendor/cuda/runtime.h"
#endif

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "kvserve/float_bits.h"

namespace kvs::gpu {

using Stream = KVS_GPU_NAME(Stream_t);
using Event = KVS_GPU_NAME(Event_t);
using Error = KVS_GPU_NAME(Error_t);
using Graph = KVS_GPU_NAME(Graph_t);
using GraphExec = KVS_GPU_NAME(GraphExec_t);
inline constexpr Error kSuccess = KVS_GPU_NAME(Success);

// Lanes that shuffle with each other and that fragments of mma.cuh are spread over. Devices whose
// hardware waves have 64 lanes hold two such warps in a wave; each of them takes its branches
// whole.
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

// #include KVS_VENDOR_HEADER(name) is the vendor's file of that name. Blanks would become part of
// the path.
// clang-format off
#if defined(__CUDACC__)
#define KVS_DEVICE_CODE 1
#define KVS_VENDOR_HEADER(name) KVS_QUOTED(gpu/vendor/nvidia/name)
#elif defined(__HIP__) || defined(KVS_GPU_EMULATOR)
#define KVS_DEVICE_CODE 1
#define KVS_VENDOR_HEADER(name) KVS_QUOTED(gpu/vendor/amd/name)
#else
#define KVS_DEVICE_CODE 0
#endif
#define KVS_QUOTED(path) #path
// clang-format on

#if KVS_DEVICE_CODE
#include KVS_VENDOR_HEADER(device.cuh)

namespace kvs::gpu {

KVS_DEVICE float ToFloat(float value) { return value; }

template <class T>
KVS_DEVICE T FromFloat(float value);
template <>
KVS_DEVICE Bf16 FromFloat<Bf16>(float value) {
  return ToBf16(value);
}
template <>
KVS_DEVICE F16 FromFloat<F16>(float value) {
  return ToF16(value);
}
template <>
KVS_DEVICE float FromFloat<float>(float value) {
  return value;
}

}  // namespace kvs::gpu
#endif
