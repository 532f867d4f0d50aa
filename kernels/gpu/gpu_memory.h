// Device memory as the DeviceBuffer that the rest of kvserve holds.
#pragma once

#include <cstddef>

#include "kvserve/backend.h"
#include "kvserve/status.h"

namespace kvs::gpu {

// Zeroed, aligned to 256 bytes. kOsError says for what it was wanted, how much is free, and which
// flags ask for less. Freed on any thread; the device must be idle with respect to it.
Result<DeviceBuffer> AllocateDevice(size_t bytes, const char* what);

// Host memory that the device copies from and to while the host goes on.
Result<DeviceBuffer> AllocatePinned(size_t bytes, const char* what);

}  // namespace kvs::gpu
