// Attention of sequences with several new tokens (prefill, chunk, cache hit) over the paged cache.
// Which rows a thread block takes is planned on the device once per step and serves every layer.
//
// A tile is up to kPrefillRows rows: the new tokens of one sequence that follow one another, times
// the query heads that share a KV head. A block walks the keys from position 0 (or the start of
// the window) in fixed steps with a running softmax, so that a row's bits depend on its query, its
// position and the cached K/V alone, whatever the chunk, the company and the cache hit are: the
// kernel also serves single tokens where that is asked for.
#pragma once

#include <cstdint>

#include "gpu/launch.h"
#include "kvserve/kernel_params.h"

namespace kvs::gpu {

inline constexpr uint32_t kPrefillMaxGroup = 16;  // query heads per KV head

enum class PrefillPath : uint8_t {
  kPortable,  // paged_prefill.cuh: compute capability 8.0 and newer
  kHopper,    // hopper/paged_prefill.cuh: 9.0
};

// The fastest path that serves this layout on this device.
PrefillPath BestPrefillPath(const KvLayout& layout, const DeviceFacts& facts);

// New tokens `first_token` and following of sequence `seq`; as many as a tile takes or are left.
struct PrefillTile {
  uint32_t seq;
  uint32_t first_token;  // counted from the sequence's first new token
};

// Device memory of the caller's, used by one step at a time.
struct PrefillTiles {
  PrefillTile* tiles;  // [max_tiles], those that see most positions first
  uint32_t* count;     // [1]
  PrefillPath path;
};

// New tokens of one tile, at least 1.
// REQUIRES: 1 <= group_size <= kPrefillMaxGroup.
uint32_t PrefillTileTokens(PrefillPath path, uint32_t group_size);

// No step of num_tokens new tokens in num_seqs sequences has more tiles than this.
uint32_t MaxPrefillTiles(PrefillPath path, uint32_t group_size, uint32_t num_tokens,
                         uint32_t num_seqs);

// Lists the tiles of the sequences with at least `min_new_tokens` new tokens; the others are left
// to the decode kernel. Reads query_start_loc and seq_lens on the device; `tiles` has room for
// MaxPrefillTiles(params).
// REQUIRES: min_new_tokens >= 1.
void PlanPrefill(const PagedAttentionParams& params, uint32_t min_new_tokens,
                 const PrefillTiles& tiles, const Launch& launch);

// Writes the rows of params.out that `tiles` lists. `params` differ from those of PlanPrefill in
// what belongs to a layer only: pointers, scales and window.
// REQUIRES: head_dim 64, 128 or 256; block_size 16, 32 or 64; a KV dtype other than kF32.
void PagedPrefill(const PagedAttentionParams& params, const PrefillTiles& tiles,
                  const Launch& launch);

}  // namespace kvs::gpu
