// See gpu/async_copy.cuh and vendor/nvidia/async_copy.cuh. Here everything is copied at once.
#pragma once

#include "gpu/gpu.h"

namespace kvs::gpu {

KVS_DEVICE void AsyncCopy16(void* shared, const void* global, bool valid = true) {
  *static_cast<uint4*>(shared) = valid ? *static_cast<const uint4*>(global) : uint4{0, 0, 0, 0};
}
KVS_DEVICE void CommitAsyncCopies() {}
template <int kPending>
KVS_DEVICE void WaitAsyncCopies() {}

}  // namespace kvs::gpu
