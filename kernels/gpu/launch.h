// How every kernel of this folder is launched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "gpu/gpu.h"
#include "kvserve/check.h"
#include "kvserve/dtype.h"

namespace kvs::gpu {

// What is known of a device before anything runs on it. Read once (device_facts.cc).
struct DeviceFacts {
  char name[256] = {};
  char architecture[32] = {};  // "sm_90", "gfx1100"
  int index = 0;
  int major = 0;  // CUDA compute capability; 0 with HIP
  int minor = 0;
  int wave_size = 32;  // lanes of a hardware wave
  int num_multiprocessors = 0;
  int driver_version = 0;   // 1000 * major + 10 * minor
  int runtime_version = 0;  // likewise
  size_t total_bytes = 0;
  size_t free_bytes = 0;  // when the facts were read
  size_t l2_bytes = 0;
  int memory_bus_bits = 0;      // 0 with HIP
  size_t max_shared_bytes = 0;  // that one block may ask for
  bool has_fp8_convert = false;
};

// What an op's launcher needs besides the op's params.
struct Launch {
  Stream stream{};
  DType act = DType::kBf16;  // of activations: kBf16 or kF16
  const DeviceFacts* facts = nullptr;
  bool dependent = false;  // programmatic dependent launch: gpu.h, WaitForPreviousKernel
};

#if KVS_DEVICE_CODE

// Launches `kernel` with `shared_bytes` of dynamic shared memory. Kernels that ask for more than
// 48 KiB have been allowed to by AllowShared.
template <class... Params, class... Args>
void LaunchKernel(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes,
                  const Launch& launch, Args&&... args) {
  const Error error = StartKernel<Params...>(kernel, grid, block, shared_bytes, launch.stream,
                                             launch.dependent, static_cast<Params>(args)...);
  if (error != kSuccess) Fail(__FILE__, __LINE__, "kernel launch", error);
}

// Once per kernel, before its first launch; not during a graph's capture.
template <class... Params>
void AllowShared(void (*kernel)(Params...), size_t bytes) {
  if (bytes <= 48 * 1024) return;
  const Error error = AllowDynamicShared(kernel, bytes);
  if (error != kSuccess) Fail(__FILE__, __LINE__, "dynamic shared memory", error);
}

#endif

// Calls f.template operator()<T>() with the device type of `act`.
template <class F>
decltype(auto) DispatchAct(DType act, F&& f) {
  if (act == DType::kF16) return f.template operator()<F16>();
  KVS_CHECK(act == DType::kBf16);
  return f.template operator()<Bf16>();
}

}  // namespace kvs::gpu
