// HIP's run time and device code, as far as kernels/gpu uses them, on the CPU (emulator/fibers.h).
// The emulated device is what KVS_HIP_ARCHITECTURES names. Streams are one; what is
// put on them has happened when the call returns, or is recorded while a graph is captured.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#include "emulator/fibers.h"

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __launch_bounds__(...)
#define __forceinline__ inline
#define KVS_HIP_DYNAMIC_SHARED(T, name, alignment) \
  T* const name = static_cast<T*>(kvs::emulator::DynamicShared())

#if defined(__gfx90a__)
inline constexpr uint32_t kEmulatedWave = 64;
#else
inline constexpr uint32_t kEmulatedWave = 32;
#endif

#define threadIdx (::kvs::emulator::place.thread)
#define blockIdx (::kvs::emulator::place.block)
#define blockDim (::kvs::emulator::place.block_size)
#define gridDim (::kvs::emulator::place.grid_size)

struct dim3 {
  uint32_t x, y, z;
  constexpr dim3(uint32_t a = 1, uint32_t b = 1, uint32_t c = 1) : x(a), y(b), z(c) {}
};
struct alignas(8) uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

// --- Host ---

enum hipError_t {
  hipSuccess = 0,
  hipErrorOutOfMemory = 2,
  hipErrorNotInitialized = 3,
  hipErrorInsufficientDriver = 35,
  hipErrorNoDevice = 100
};
enum hipMemcpyKind { hipMemcpyHostToDevice, hipMemcpyDeviceToHost, hipMemcpyDeviceToDevice };
enum hipStreamCaptureMode { hipStreamCaptureModeThreadLocal };
enum hipFuncAttribute { hipFuncAttributeMaxDynamicSharedMemorySize };
inline constexpr unsigned hipStreamNonBlocking = 1, hipEventDisableTiming = 2;

namespace kvs::emulator {
using Operations = std::vector<std::function<void()>>;
inline Operations* capture = nullptr;  // where operations go instead of being done
inline void Do(std::function<void()> operation) {
  if (capture != nullptr) {
    capture->push_back(std::move(operation));
  } else {
    operation();
  }
}
}  // namespace kvs::emulator

struct KvsEmulatedStream {};
struct KvsEmulatedEvent {};
using hipStream_t = KvsEmulatedStream*;
using hipEvent_t = KvsEmulatedEvent*;
using hipGraph_t = kvs::emulator::Operations*;
using hipGraphExec_t = kvs::emulator::Operations*;

struct hipDeviceProp_t {
  char name[256];
  char gcnArchName[256];
  int warpSize;
  int multiProcessorCount;
  int l2CacheSize;
  size_t sharedMemPerBlock;
};

inline const char* hipGetErrorString(hipError_t error) {
  return error == hipSuccess ? "no error" : "an emulated error";
}
inline const char* hipGetErrorName(hipError_t) { return "hipError"; }
inline hipError_t hipGetLastError() { return hipSuccess; }
inline hipError_t hipDriverGetVersion(int* version) { return *version = 60000000, hipSuccess; }
inline hipError_t hipRuntimeGetVersion(int* version) { return *version = 60000000, hipSuccess; }
inline hipError_t hipGetDeviceCount(int* count) { return *count = 1, hipSuccess; }
inline hipError_t hipSetDevice(int) { return hipSuccess; }
inline hipError_t hipGetDeviceProperties(hipDeviceProp_t* out, int) {
  *out = {};
  std::strcpy(out->name, "emulated device");
  std::strcpy(out->gcnArchName, KVS_HIP_ARCHITECTURES ":sramecc+:xnack-");
  out->warpSize = static_cast<int>(kEmulatedWave);
  out->multiProcessorCount = 3;
  out->l2CacheSize = 1 << 20;
  out->sharedMemPerBlock = 64 << 10;
  return hipSuccess;
}
inline hipError_t hipMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  *free_bytes = *total_bytes = size_t{1} << 30;
  return hipSuccess;
}
inline hipError_t hipMalloc(void** data, size_t bytes) {
  *data = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  return *data == nullptr ? hipErrorOutOfMemory : hipSuccess;
}
inline hipError_t hipFree(void* data) { return std::free(data), hipSuccess; }
inline hipError_t hipHostMalloc(void** data, size_t bytes, unsigned) {
  return hipMalloc(data, bytes);
}
inline hipError_t hipHostFree(void* data) { return hipFree(data); }
inline hipError_t hipMemcpy(void* to, const void* from, size_t bytes, hipMemcpyKind) {
  return std::memcpy(to, from, bytes), hipSuccess;
}
inline hipError_t hipMemset(void* to, int value, size_t bytes) {
  return std::memset(to, value, bytes), hipSuccess;
}
inline hipError_t hipMemcpyAsync(void* to, const void* from, size_t bytes, hipMemcpyKind,
                                 hipStream_t) {
  kvs::emulator::Do([=] { std::memcpy(to, from, bytes); });
  return hipSuccess;
}
inline hipError_t hipMemsetAsync(void* to, int value, size_t bytes, hipStream_t) {
  kvs::emulator::Do([=] { std::memset(to, value, bytes); });
  return hipSuccess;
}
inline hipError_t hipStreamCreate(hipStream_t* s) { return *s = new KvsEmulatedStream, hipSuccess; }
inline hipError_t hipStreamCreateWithFlags(hipStream_t* s, unsigned) { return hipStreamCreate(s); }
inline hipError_t hipStreamDestroy(hipStream_t stream) { return delete stream, hipSuccess; }
inline hipError_t hipStreamSynchronize(hipStream_t) { return hipSuccess; }
inline hipError_t hipDeviceSynchronize() { return hipSuccess; }
inline hipError_t hipEventCreate(hipEvent_t* e) { return *e = new KvsEmulatedEvent, hipSuccess; }
inline hipError_t hipEventCreateWithFlags(hipEvent_t* e, unsigned) { return hipEventCreate(e); }
inline hipError_t hipEventDestroy(hipEvent_t event) { return delete event, hipSuccess; }
inline hipError_t hipEventRecord(hipEvent_t, hipStream_t) { return hipSuccess; }
inline hipError_t hipEventElapsedTime(float* ms, hipEvent_t, hipEvent_t) {
  return *ms = 0, hipSuccess;
}
inline hipError_t hipEventQuery(hipEvent_t) { return hipSuccess; }
inline hipError_t hipStreamWaitEvent(hipStream_t, hipEvent_t, unsigned) { return hipSuccess; }
inline hipError_t hipEventSynchronize(hipEvent_t) { return hipSuccess; }
inline hipError_t hipStreamBeginCapture(hipStream_t, hipStreamCaptureMode) {
  kvs::emulator::capture = new kvs::emulator::Operations;
  return hipSuccess;
}
inline hipError_t hipStreamEndCapture(hipStream_t, hipGraph_t* graph) {
  *graph = std::exchange(kvs::emulator::capture, nullptr);
  return hipSuccess;
}
inline hipError_t hipGraphInstantiate(hipGraphExec_t* exec, hipGraph_t graph, void*, void*,
                                      size_t) {
  return *exec = new kvs::emulator::Operations(*graph), hipSuccess;
}
inline hipError_t hipGraphDestroy(hipGraph_t graph) { return delete graph, hipSuccess; }
inline hipError_t hipGraphExecDestroy(hipGraphExec_t exec) { return delete exec, hipSuccess; }
inline hipError_t hipGraphLaunch(hipGraphExec_t exec, hipStream_t) {
  for (const auto& operation : *exec) operation();
  return hipSuccess;
}
inline hipError_t hipFuncSetAttribute(const void*, hipFuncAttribute, int) { return hipSuccess; }

template <class Kernel, class... Args>
void hipLaunchKernelGGL(Kernel kernel, dim3 grid, dim3 block, size_t shared_bytes, hipStream_t,
                        Args... args) {
  kvs::emulator::Do([=] {
    kvs::emulator::RunGrid({grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, shared_bytes,
                           [&] { kernel(args...); });
  });
}

#include "emulator/device_code.h"
