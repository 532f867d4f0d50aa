// See gpu/async_copy.cuh.
#pragma once

#include "gpu/gpu.h"

namespace kvs::gpu {

// Copies 16 bytes past the first-level cache. Both addresses are 16-byte aligned. Where `valid` is
// false nothing is read and the 16 bytes become zero; `global` may be any address then.
KVS_DEVICE void AsyncCopy16(void* shared, const void* global, bool valid = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                   static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
               "l"(__cvta_generic_to_global(global)), "r"(valid ? 16 : 0)
               : "memory");
}

// Closes a group: this thread's copies since the last call. A group may be empty.
KVS_DEVICE void CommitAsyncCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most `kPending` of this thread's latest groups are still in flight.
template <int kPending>
KVS_DEVICE void WaitAsyncCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace kvs::gpu
