// See gpu/stream_load.cuh.
#pragma once

#include "gpu/async_copy.cuh"

namespace kvs::gpu {

KVS_DEVICE void StreamCopy16(void* shared, const void* global, bool valid) {
  AsyncCopy16(shared, global, valid);
}

}  // namespace kvs::gpu
