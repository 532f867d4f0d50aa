// Compute capability 9.0: how the copy engine finds its way through the KV cache.
#pragma once

#include <cuda.h>

#include "gpu/gpu.h"
#include "kvserve/kernel_params.h"

namespace kvs::gpu::hopper {

using TensorMap = CUtensorMap;  // a kernel parameter, KVS_GRID_CONSTANT

inline constexpr uint32_t kKvBoxRows = 16;  // of a block, whose size is a multiple of it

// One layer of a 16-bit cache as a matrix with a row for each position of each head's K and V, in
// the order of KvLayout. Boxes are kKvBoxRows rows of 64 columns, which come to stand swizzled over
// 128 bytes as in paged_prefill_copy.cuh.
TensorMap MapOfKv(const KvView& kv);

}  // namespace kvs::gpu::hopper
