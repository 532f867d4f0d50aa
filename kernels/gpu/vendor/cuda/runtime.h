// CUDA's run time, under the names that gpu.h and launch.h give it.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstddef>

#define KVS_GPU_NAME(name) cuda##name

namespace kvs::gpu {

inline constexpr const char* kDeviceKind = "cuda";  // as --device spells it

using Bf16 = __nv_bfloat16;
using F16 = __half;

inline cudaError_t InstantiateGraph(cudaGraphExec_t* exec, cudaGraph_t graph) {
  return cudaGraphInstantiate(exec, graph, 0);
}

#if defined(__CUDACC__)

// With `dependent`, the kernel may be resident before the one in front of it has finished.
template <class... Params>
cudaError_t StartKernel(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes,
                        cudaStream_t stream, bool dependent, Params... args) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = dependent ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, args...);
}

template <class... Params>
cudaError_t AllowDynamicShared(void (*kernel)(Params...), size_t bytes) {
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              static_cast<int>(bytes));
}

#endif

}  // namespace kvs::gpu
