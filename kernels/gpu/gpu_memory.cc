#include "gpu/gpu_memory.h"

#include <cstring>
#include <string>

#include "gpu/gpu.h"

namespace kvs::gpu {

Result<DeviceBuffer> AllocateDevice(size_t bytes, const char* what) {
  if (bytes == 0) return DeviceBuffer();
  void* data = nullptr;
  const Error error = KVS_GPU_NAME(Malloc)(&data, bytes);
  if (error != kSuccess) {
    static_cast<void>(KVS_GPU_NAME(GetLastError)());  // it is dealt with here
    size_t free_bytes = 0, total_bytes = 0;
    KVS_GPU(MemGetInfo(&free_bytes, &total_bytes));
    return kvs::Error(Code::kOsError,
                      std::string(what) + ": the device did not give " + std::to_string(bytes) +
                          " bytes (" + KVS_GPU_NAME(GetErrorString)(error) + "); " +
                          std::to_string(free_bytes) + " of " + std::to_string(total_bytes) +
                          " are free. Lower --gpu-memory-utilization, --max-num-batched-tokens or "
                          "--max-num-seqs, or end what else uses the device");
  }
  // Complete before any other stream writes there.
  KVS_GPU(Memset(data, 0, bytes));
  KVS_GPU(StreamSynchronize(nullptr));
  return DeviceBuffer(data, bytes, [](void* freed, size_t) { KVS_GPU(Free(freed)); });
}

Result<DeviceBuffer> AllocatePinned(size_t bytes, const char* what) {
  if (bytes == 0) return DeviceBuffer();
  void* data = nullptr;
  const Error error = KVS_GPU_NAME(HostAlloc)(&data, bytes, 0);
  if (error != kSuccess) {
    static_cast<void>(KVS_GPU_NAME(GetLastError)());  // it is dealt with here
    return kvs::Error(Code::kOsError, std::string(what) + ": the driver did not lock " +
                                          std::to_string(bytes) + " bytes of host memory (" +
                                          KVS_GPU_NAME(GetErrorString)(error) + ")");
  }
  std::memset(data, 0, bytes);
  return DeviceBuffer(data, bytes, [](void* freed, size_t) { KVS_GPU(FreeHost(freed)); });
}

}  // namespace kvs::gpu
