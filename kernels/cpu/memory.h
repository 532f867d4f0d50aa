// Large, zeroed, page-aligned memory; from 2 MiB on it is aligned to and advised for huge pages,
// without which streaming weights spends much of its time in the TLB.
#pragma once

#include <cstddef>

#include "kvserve/backend.h"
#include "kvserve/status.h"

namespace kvs::cpu {

// kOsError when the memory cannot be had; `what` names its use in the message. `bytes` may be 0.
Result<DeviceBuffer> AllocatePages(size_t bytes, const char* what);

}  // namespace kvs::cpu
