// Compute capability 9.0: copies by the copy engine. One thread starts a copy, of a run of bytes or
// of a box of a tensor, and the barrier it names counts the bytes as they come.
#pragma once

#include "gpu/hopper/barrier.cuh"
#include "gpu/hopper/tensor_map.h"

namespace kvs::gpu::hopper {

// Addresses and `bytes` are multiples of 16.
KVS_DEVICE void BulkCopy(void* shared, const void* global, uint32_t bytes,
                         const SharedBarrier& barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
      "l"(__cvta_generic_to_global(global)), "r"(bytes), "r"(barrier.Address())
      : "memory");
}

// The box of `map` that begins at this byte of `row`; rows of kBoxBytes.
KVS_DEVICE void CopyBox(void* shared, const TensorMap& map, uint32_t byte, uint32_t row,
                        const SharedBarrier& barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, "
      "%3}], [%4];" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
      "l"(&map), "r"(byte), "r"(row), "r"(barrier.Address())
      : "memory");
}

// The same of a map by MapOfTiles, from `panel` (of kBoxBytes bytes of a row) and `row` on; row is
// a multiple of 8.
KVS_DEVICE void CopyTile(void* shared, const TensorMap& map, uint32_t panel, uint32_t row,
                         const SharedBarrier& barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, "
      "%2, %3, %4}], [%5];" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
      "l"(&map), "r"(0), "r"(panel), "r"(row / 8), "r"(barrier.Address())
      : "memory");
}

KVS_DEVICE void PrefetchMap(const TensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

}  // namespace kvs::gpu::hopper
