// Copies from global to shared memory that run while the thread goes on: several stages of a loop
// in flight. A thread waits for its own copies; a barrier then shows them to the others.
#pragma once

#include "gpu/gpu.h"

namespace kvs::gpu {

#if defined(__CUDA_ARCH__)

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

#else  // Copied at once.

KVS_DEVICE void AsyncCopy16(void* shared, const void* global, bool valid = true) {
  *static_cast<uint4*>(shared) = valid ? *static_cast<const uint4*>(global) : uint4{0, 0, 0, 0};
}
KVS_DEVICE void CommitAsyncCopies() {}
template <int kPending>
KVS_DEVICE void WaitAsyncCopies() {}

#endif

}  // namespace kvs::gpu
