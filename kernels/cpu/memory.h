// Large, zeroed, page-aligned memory; from 2 MiB on it is aligned to and advised for huge pages,
// without which streaming weights spends much of its time in the TLB.
#pragma once

#include <cstddef>

#include "kvserve/backend.h"
#include "kvserve/status.h"

namespace kvs::cpu {

// When the system gives the pages: now, so that no step waits for one and the process does not grow
// under load, or when each is first used.
enum class Pages { kNow, kOnUse };

// kOsError when the memory cannot be had; `what` names its use in the message. `bytes` may be 0.
Result<DeviceBuffer> AllocatePages(size_t bytes, const char* what, Pages pages);

}  // namespace kvs::cpu
