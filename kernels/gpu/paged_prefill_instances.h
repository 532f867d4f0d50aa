// What the files in instances/ define, and paged_prefill.cu chooses from.
#pragma once

#include "gpu/paged_prefill.h"

namespace kvs::gpu {

inline constexpr uint32_t kPortablePrefillRows = 64;  // of a tile
inline constexpr uint32_t kHopperPrefillRows = 128;

struct PrefillGrid {
  uint32_t num_blocks;   // tiles and parts, as many as there may be, times KV heads
  uint32_t tile_tokens;  // PrefillTileTokens
};

template <KvCacheDType dtype, uint32_t kHeadDim>
void RunPortablePrefill(const PagedAttentionParams& params, const PrefillTiles& tiles,
                        const PrefillGrid& grid, const Launch& launch);

// Merges what the step's split tiles have left in tiles.split (paged_prefill_merge.cu).
void MergePrefill(const PagedAttentionParams& params, const PrefillTiles& tiles,
                  uint32_t tile_tokens, const Launch& launch);

// head_dim 64 and 128.
template <KvCacheDType dtype, uint32_t kHeadDim>
void RunHopperPrefill(const PagedAttentionParams& params, const PrefillTiles& tiles,
                      const PrefillGrid& grid, const Launch& launch);

}  // namespace kvs::gpu
