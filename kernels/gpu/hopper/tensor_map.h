// Compute capability 9.0: how the copy engine finds its way through the KV cache, and through the
// operands of linear layers.
#pragma once

#include <cuda.h>

#include "gpu/gpu.h"
#include "kvserve/kernel_params.h"

namespace kvs::gpu::hopper {

using TensorMap = CUtensorMap;  // a kernel parameter, KVS_GRID_CONSTANT

inline constexpr uint32_t kBoxBytes = 128;  // of a box's row, over which it comes to stand swizzled

inline constexpr uint32_t kKvBoxRows = 16;  // of a block, whose size is a multiple of it

// One layer of a 16-bit cache as a matrix with a row for each position of each head's K and V, in
// the order of KvLayout. Boxes are kKvBoxRows rows, swizzled as in paged_prefill_copy.cuh.
TensorMap MapOfKv(const KvView& kv);

// `data` is a matrix of `num_rows` rows of `row_bytes`, 16-byte aligned; row_bytes is a multiple of
// 16. Boxes are `box_rows` rows, at most 256 and a multiple of 8, swizzled likewise. What lies
// outside of the matrix becomes zero.
TensorMap MapOfMatrix(const void* data, uint32_t num_rows, uint32_t row_bytes, uint32_t box_rows);

// The same of boxes of `box_panels` times kBoxBytes bytes of a row, which the copy engine reads
// side by side: eight rows of the first kBoxBytes, of the next, and so on, then the next eight
// rows. So they come to stand, too. num_rows is a multiple of 8, and row_bytes of kBoxBytes.
// The second-level cache reads `read_bytes` at once, 128 or 256.
TensorMap MapOfTiles(const void* data, uint32_t num_rows, uint32_t row_bytes, uint32_t box_rows,
                     uint32_t box_panels, uint32_t read_bytes);

}  // namespace kvs::gpu::hopper
