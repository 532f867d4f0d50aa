// See gpu/stream_load.cuh.
#pragma once

#include "gpu/async_copy.cuh"

namespace kvs::gpu {

// AsyncCopy16 of what is read once, in whole pieces of 256 bytes.
KVS_DEVICE void StreamCopy16(void* shared, const void* global, bool valid) {
  asm volatile("cp.async.cg.shared.global.L2::256B [%0], [%1], 16, %2;" ::"r"(
                   static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
               "l"(__cvta_generic_to_global(global)), "r"(valid ? 16 : 0)
               : "memory");
}

}  // namespace kvs::gpu
