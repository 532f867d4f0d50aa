// Where a token's K and V lie. The only address arithmetic of the KV cache: sizing, writers,
// readers and tests of every backend call it.
//
// One layer: [num_blocks][num_kv_heads][2 (K, V)][block_size][head_dim], so that one head's K of
// one block is one contiguous run, followed by its V. A layer's blocks include the null block 0.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kvserve/dtype.h"
#include "kvserve/float_bits.h"
#include "kvserve/ids.h"

namespace kvs {

struct KvLayout {
  uint32_t num_layers;
  uint32_t num_kv_heads;
  uint32_t head_dim;
  uint32_t block_size;  // tokens per block: 16, 32 or 64
  KvCacheDType dtype;
  uint32_t num_bf16_layers = 0;  // of num_layers, how many are stored as BF16 instead of `dtype`

  // block_size is 1 << BlockShift(): a division by it takes a GPU dozens of instructions.
  constexpr uint32_t BlockShift() const { return 4 + block_size / 32; }

  // Elements of one head's K (or V) in one block.
  constexpr size_t PlaneElements() const { return size_t{block_size} * head_dim; }

  // Element offsets within a layer; multiply by SizeOf(dtype) for bytes.
  constexpr size_t KOffset(BlockId block, uint32_t kv_head) const {
    return (size_t{block.value} * num_kv_heads + kv_head) * 2 * PlaneElements();
  }
  constexpr size_t VOffset(BlockId block, uint32_t kv_head) const {
    return KOffset(block, kv_head) + PlaneElements();
  }

  // The layout of a layer stored as `layer_dtype`.
  constexpr KvLayout As(KvCacheDType layer_dtype) const {
    return {num_layers, num_kv_heads, head_dim, block_size, layer_dtype};
  }

  // Bytes of one block in one layer of `dtype`, and in all layers.
  constexpr size_t LayerBlockBytes() const {
    return size_t{2} * num_kv_heads * PlaneElements() * SizeOf(dtype);
  }
  constexpr size_t BlockBytes() const {
    return LayerBlockBytes() * (num_layers - num_bf16_layers) +
           As(KvCacheDType::kBf16).LayerBlockBytes() * num_bf16_layers;
  }
  constexpr size_t TokenBytes() const { return BlockBytes() / block_size; }
};

static_assert(1u << KvLayout{8, 2, 64, 16, KvCacheDType::kBf16}.BlockShift() == 16);
static_assert(1u << KvLayout{8, 2, 64, 32, KvCacheDType::kBf16}.BlockShift() == 32);
static_assert(1u << KvLayout{8, 2, 64, 64, KvCacheDType::kBf16}.BlockShift() == 64);
static_assert(KvLayout{8, 2, 64, 16, KvCacheDType::kBf16}.TokenBytes() == 4096);
static_assert(KvLayout{8, 2, 64, 16, KvCacheDType::kF8E4M3}.TokenBytes() == 2048);
static_assert(KvLayout{8, 2, 64, 16, KvCacheDType::kF8E4M3, 2}.TokenBytes() == 2560);
static_assert(KvLayout{1, 2, 64, 16, KvCacheDType::kBf16}.KOffset(BlockId{1}, 1) == 6144);

}  // namespace kvs
