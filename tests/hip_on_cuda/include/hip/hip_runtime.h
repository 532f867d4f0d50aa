// HIP's run time on CUDA, as far as kernels/gpu uses it, so that the HIP build's host code and the
// kernels of 32-lane warps run where there is an NVIDIA device: cmake -DKVS_HIP_ON_CUDA=ON. Device
// instructions are those of vendor/nvidia. For tests alone.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdio>
#include <cstring>

using hipStream_t = cudaStream_t;
using hipEvent_t = cudaEvent_t;
using hipError_t = cudaError_t;
using hipGraph_t = cudaGraph_t;
using hipGraphExec_t = cudaGraphExec_t;

inline constexpr hipError_t hipSuccess = cudaSuccess;
inline constexpr hipError_t hipErrorInsufficientDriver = cudaErrorInsufficientDriver;
inline constexpr hipError_t hipErrorNotInitialized = cudaErrorInitializationError;
#define hipStreamNonBlocking cudaStreamNonBlocking
#define hipEventDisableTiming cudaEventDisableTiming
#define hipMemcpyHostToDevice cudaMemcpyHostToDevice
#define hipMemcpyDeviceToHost cudaMemcpyDeviceToHost
#define hipMemcpyDeviceToDevice cudaMemcpyDeviceToDevice
#define hipStreamCaptureModeThreadLocal cudaStreamCaptureModeThreadLocal
#define hipFuncAttributeMaxDynamicSharedMemorySize cudaFuncAttributeMaxDynamicSharedMemorySize

#define hipGetErrorString cudaGetErrorString
#define hipGetErrorName cudaGetErrorName
#define hipGetLastError cudaGetLastError
#define hipGetDeviceCount cudaGetDeviceCount
#define hipSetDevice cudaSetDevice
#define hipDeviceSynchronize cudaDeviceSynchronize
#define hipMemGetInfo cudaMemGetInfo
#define hipMalloc cudaMalloc
#define hipFree cudaFree
#define hipHostMalloc cudaHostAlloc
#define hipHostFree cudaFreeHost
#define hipMemcpy cudaMemcpy
#define hipMemcpyAsync cudaMemcpyAsync
#define hipMemset cudaMemset
#define hipMemsetAsync cudaMemsetAsync
#define hipStreamCreate cudaStreamCreate
#define hipStreamCreateWithFlags cudaStreamCreateWithFlags
#define hipStreamDestroy cudaStreamDestroy
#define hipStreamSynchronize cudaStreamSynchronize
#define hipStreamWaitEvent cudaStreamWaitEvent
#define hipStreamBeginCapture cudaStreamBeginCapture
#define hipStreamEndCapture cudaStreamEndCapture
#define hipEventCreate cudaEventCreate
#define hipEventCreateWithFlags cudaEventCreateWithFlags
#define hipEventDestroy cudaEventDestroy
#define hipEventRecord cudaEventRecord
#define hipEventSynchronize cudaEventSynchronize
#define hipEventElapsedTime cudaEventElapsedTime
#define hipGraphLaunch cudaGraphLaunch
#define hipGraphDestroy cudaGraphDestroy
#define hipGraphExecDestroy cudaGraphExecDestroy
#define hipFuncSetAttribute cudaFuncSetAttribute
#define hipLaunchKernelGGL(kernel, grid, block, shared_bytes, stream, ...) \
  kernel<<<grid, block, shared_bytes, stream>>>(__VA_ARGS__)

inline hipError_t hipGraphInstantiate(hipGraphExec_t* exec, hipGraph_t graph, void*, char*,
                                      size_t) {
  return cudaGraphInstantiate(exec, graph, 0);
}

// CUDA's 13010 as HIP's 130100000.
inline hipError_t KvsHipVersion(hipError_t error, int* version) {
  *version = *version / 1000 * 10000000 + *version % 1000 / 10 * 100000;
  return error;
}
inline hipError_t hipDriverGetVersion(int* version) {
  const hipError_t error = cudaDriverGetVersion(version);
  return KvsHipVersion(error, version);
}
inline hipError_t hipRuntimeGetVersion(int* version) {
  const hipError_t error = cudaRuntimeGetVersion(version);
  return KvsHipVersion(error, version);
}

struct hipDeviceProp_t {
  char name[256];
  char gcnArchName[256];
  int warpSize;
  int multiProcessorCount;
  int l2CacheSize;
  size_t sharedMemPerBlock;
};
inline hipError_t hipGetDeviceProperties(hipDeviceProp_t* out, int index) {
  cudaDeviceProp properties;
  const hipError_t error = cudaGetDeviceProperties(&properties, index);
  if (error != cudaSuccess) return error;
  *out = {};
  std::snprintf(out->name, sizeof out->name, "%.200s by HIP on CUDA", properties.name);
  std::snprintf(out->gcnArchName, sizeof out->gcnArchName, "sm_%d%d", properties.major,
                properties.minor);
  out->warpSize = properties.warpSize;
  out->multiProcessorCount = properties.multiProcessorCount;
  out->l2CacheSize = properties.l2CacheSize;
  out->sharedMemPerBlock = properties.sharedMemPerBlockOptin;
  return cudaSuccess;
}
