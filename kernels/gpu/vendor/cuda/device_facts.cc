#include "gpu/device_facts.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace kvs::gpu {
namespace {

// What these kernels are compiled for at least.
constexpr int kMinMajor = 8;

tl::unexpected<Status> Unavailable(const std::string& problem) {
  return kvs::Error(Code::kUnavailable, "--device cuda: " + problem + ", or use --device cpu",
                    "--device");
}

// The number of devices; not 0.
Result<int> CountDevices(DeviceFacts& facts) {
  KVS_GPU_NAME(DriverGetVersion)(&facts.driver_version);
  KVS_GPU_NAME(RuntimeGetVersion)(&facts.runtime_version);
  if (facts.driver_version == 0) {
    return Unavailable("no NVIDIA driver is installed; install one that supports CUDA " +
                       VersionText(facts.runtime_version));
  }
  int count = 0;
  const auto error = KVS_GPU_NAME(GetDeviceCount)(&count);
  if (error == cudaErrorInsufficientDriver) {
    return Unavailable("the driver supports CUDA up to " + VersionText(facts.driver_version) +
                       ", but this build needs " + VersionText(facts.runtime_version) +
                       "; install a newer driver");
  }
  if (error != kSuccess || count == 0) {
    const char* reason = error == kSuccess ? "none" : KVS_GPU_NAME(GetErrorString)(error);
    return Unavailable(std::string("the driver shows no device (") + reason +
                       "); check nvidia-smi and CUDA_VISIBLE_DEVICES");
  }
  return count;
}

}  // namespace

Result<DeviceFacts> ReadDeviceFacts(int index) {
  DeviceFacts facts;
  const auto count = CountDevices(facts);
  if (!count) return tl::unexpected(count.error());
  if (index < 0 || index >= *count) {
    return Unavailable("device " + std::to_string(index) + " does not exist; there are " +
                       std::to_string(*count));
  }
  cudaDeviceProp properties;
  KVS_GPU(SetDevice(index));
  KVS_GPU(GetDeviceProperties(&properties, index));
  std::memcpy(facts.name, properties.name,
              std::min(sizeof facts.name - 1, std::strlen(properties.name)));
  std::snprintf(facts.architecture, sizeof facts.architecture, "sm_%d%d", properties.major,
                properties.minor);
  facts.index = index;
  facts.major = properties.major;
  facts.minor = properties.minor;
  facts.num_multiprocessors = properties.multiProcessorCount;
  facts.l2_bytes = static_cast<size_t>(properties.l2CacheSize);
  facts.memory_bus_bits = properties.memoryBusWidth;
  facts.max_shared_bytes = properties.sharedMemPerBlockOptin;
  facts.has_fp8_convert = properties.major * 10 + properties.minor >= 89;
  KVS_GPU(MemGetInfo(&facts.free_bytes, &facts.total_bytes));
  if (facts.major < kMinMajor) {
    return Unavailable(std::string(facts.name) + " has compute capability " +
                       std::to_string(facts.major) + "." + std::to_string(facts.minor) +
                       ", but 8.0 or newer is needed; choose another device");
  }
  return facts;
}

}  // namespace kvs::gpu
