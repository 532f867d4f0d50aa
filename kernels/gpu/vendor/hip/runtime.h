// HIP's run time, of ROCm 5 to 7, under the names that gpu.h and launch.h give it. The 16-bit types
// are our own: hip_bf16.h came with ROCm 5.7 and has changed since.
#pragma once

#include <hip/hip_runtime.h>

#include <cstddef>
#include <cstdint>

#define KVS_GPU_NAME(name) hip##name

// Names that some releases lack or call deprecated.
#define hipHostAlloc hipHostMalloc
#define hipFreeHost hipHostFree

namespace kvs::gpu {

inline constexpr const char* kDeviceKind = "hip";  // as --device spells it

struct Bf16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

inline hipError_t InstantiateGraph(hipGraphExec_t* exec, hipGraph_t graph) {
  return hipGraphInstantiate(exec, graph, nullptr, nullptr, 0);
}

#if defined(__HIP__) || defined(__CUDACC__) || defined(KVS_GPU_EMULATOR)

// HIP has no counterpart of dependent launches.
template <class... Params>
hipError_t StartKernel(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes,
                       hipStream_t stream, bool, Params... args) {
  hipLaunchKernelGGL(kernel, grid, block, shared_bytes, stream, args...);
  return hipGetLastError();
}

// AMD's run time needs no permission, and some releases refuse the question: a launch that asks for
// too much fails by itself.
template <class... Params>
hipError_t AllowDynamicShared(void (*kernel)(Params...), size_t bytes) {
  static_cast<void>(hipFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                        hipFuncAttributeMaxDynamicSharedMemorySize,
                                        static_cast<int>(bytes)));
  static_cast<void>(hipGetLastError());
  return hipSuccess;
}

#endif

}  // namespace kvs::gpu
