#include "gpu/device_facts.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace kvs::gpu {
namespace {

constexpr int kMinRuntime = 5;  // ROCm's major version

tl::unexpected<Status> Unavailable(const std::string& problem) {
  return kvs::Error(Code::kUnavailable, "--device hip: " + problem + ", or use --device cpu",
                    "--device");
}

// KVS_HIP_ARCHITECTURES names, with blanks between, what the kernels are compiled for. Asked before
// anything is launched: some releases of the run time abort where they find no code.
bool IsCompiledFor(const char* architecture) {
  const std::string all = std::string(" ") + KVS_HIP_ARCHITECTURES + " ";
  return all.find(" " + std::string(architecture) + " ") != std::string::npos;
}

// HIP packs a version as major * 10^7 + minor * 10^5 + patch; DeviceFacts as CUDA does.
int PackVersion(int hip_version) {
  return hip_version / 10000000 * 1000 + hip_version / 100000 % 100 * 10;
}

// The number of devices; not 0.
Result<int> CountDevices(DeviceFacts& facts) {
  int driver = 0, runtime = 0, count = 0;
  const auto driver_error = hipDriverGetVersion(&driver);
  const auto runtime_error = hipRuntimeGetVersion(&runtime);
  facts.driver_version = driver_error == hipSuccess ? PackVersion(driver) : 0;
  facts.runtime_version = runtime_error == hipSuccess ? PackVersion(runtime) : 0;
  const auto error = hipGetDeviceCount(&count);
  if (error == hipErrorInsufficientDriver || error == hipErrorNotInitialized) {
    return Unavailable(std::string("the amdgpu driver is missing or too old for this ROCm (") +
                       hipGetErrorString(error) + "); check that /dev/kfd exists");
  }
  if (error != hipSuccess || count == 0) {
    const char* reason = error == hipSuccess ? "none" : hipGetErrorString(error);
    return Unavailable(std::string("the driver shows no device (") + reason +
                       "); check that /dev/kfd exists, that you are in the groups render and "
                       "video, rocminfo, HIP_VISIBLE_DEVICES and ROCR_VISIBLE_DEVICES");
  }
  if (facts.runtime_version != 0 && facts.runtime_version / 1000 < kMinRuntime) {
    return Unavailable("the HIP run time is of version " +
                       std::to_string(facts.runtime_version / 1000) + ", but " +
                       std::to_string(kMinRuntime) + " or newer is needed; install a newer ROCm");
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
  hipDeviceProp_t properties;
  KVS_GPU(SetDevice(index));
  KVS_GPU(GetDeviceProperties(&properties, index));
  std::memcpy(facts.name, properties.name,
              std::min(sizeof facts.name - 1, std::strlen(properties.name)));
  // "gfx90a:sramecc+:xnack-": the features are no part of the name.
  const char* architecture = properties.gcnArchName;
  std::memcpy(facts.architecture, architecture,
              std::min(sizeof facts.architecture - 1, std::strcspn(architecture, ":")));
  facts.index = index;
  facts.wave_size = properties.warpSize;
  facts.num_multiprocessors = properties.multiProcessorCount;
  facts.l2_bytes = static_cast<size_t>(properties.l2CacheSize);
  facts.max_shared_bytes = properties.sharedMemPerBlock;
  KVS_GPU(MemGetInfo(&facts.free_bytes, &facts.total_bytes));
  if (!IsCompiledFor(facts.architecture)) {
    return Unavailable(std::string(facts.name) + " is " + facts.architecture +
                       ", but this library was compiled for " KVS_HIP_ARCHITECTURES
                       "; build it with -DKVS_HIP_ARCHITECTURES=" +
                       facts.architecture + ", or choose another device");
  }
  return facts;
}

}  // namespace kvs::gpu
