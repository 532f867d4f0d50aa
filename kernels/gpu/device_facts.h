// Reads what a device is. The one place that asks the run time about it.
#pragma once

#include <string>

#include "gpu/launch.h"
#include "kvserve/status.h"

namespace kvs::gpu {

// kUnavailable, in a sentence that says what is there and what is needed: no driver, a driver older
// than the run time, no device, no device of this index, a device too old for these kernels.
Result<DeviceFacts> ReadDeviceFacts(int index);

// DeviceFacts::driver_version or runtime_version as "MAJOR.MINOR".
inline std::string VersionText(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

}  // namespace kvs::gpu
