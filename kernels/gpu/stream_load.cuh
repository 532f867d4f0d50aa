// Reading weights once, past the caches.
#pragma once

#include "gpu/async_copy.cuh"

namespace kvs::gpu {

// AsyncCopy16 of what is read once and in whole lines.
KVS_DEVICE void StreamCopy16(void* shared, const void* global, bool valid) {
#if defined(__CUDA_ARCH__)
  asm volatile("cp.async.cg.shared.global.L2::256B [%0], [%1], 16, %2;" ::"r"(
                   static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
               "l"(__cvta_generic_to_global(global)), "r"(valid ? 16 : 0)
               : "memory");
#else
  AsyncCopy16(shared, global, valid);
#endif
}

// Starts to bring `bytes` (a multiple of 16) from `from` (16-byte aligned) into the second-level
// cache. Only a hint.
KVS_DEVICE void PrefetchToL2(const void* from, uint32_t bytes) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(__cvta_generic_to_global(from)),
               "r"(bytes));
#else
  static_cast<void>(from), static_cast<void>(bytes);
#endif
}

}  // namespace kvs::gpu
