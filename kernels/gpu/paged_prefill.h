// Attention of sequences with several new tokens (prefill, chunk, cache hit) over the paged cache.
// Which rows a thread block takes is planned on the device once per step and serves every layer.
//
// A tile is up to kPrefillRows rows: the new tokens of one sequence that follow one another, times
// the query heads that share a KV head. A block walks the keys from position 0 (or the start of
// the window) in fixed steps with a running softmax, so that a row's bits depend on its query, its
// position and the cached K/V alone, whatever the chunk, the company and the cache hit are: the
// kernel also serves single tokens where that is asked for. Where tiles may be split
// (PrefillSplit), a row's bits depend on the step's other sequences as well.
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

// New tokens `first_token` and following of sequence `seq`, as many as a tile takes or are left,
// with all positions that they see or a part of these.
struct PrefillTile {
  static constexpr uint32_t kWhole = UINT32_MAX;
  uint32_t seq;
  uint32_t first_token;            // counted from the sequence's first new token
  uint32_t part = kWhole;          // or where among the partial results this part's goes
  uint32_t first_position = 0;     // of a part; a multiple of kPrefillPartStep
  uint32_t end_position = kWhole;  // of a part; likewise, or beyond what the rows see
};
inline constexpr uint32_t kPrefillPartStep = 128;  // a multiple of every path's step

// A tile that was split: its parts stand one after another.
struct PrefillMerge {
  uint32_t seq;
  uint32_t first_token;
  uint32_t first_part;
  uint32_t num_parts;
};

// Where few tiles see many positions, tiles are split over the positions to fill the device, and
// the parts' softmax states are merged by a second kernel. Device memory of the caller's. All zero:
// no tile is split, which --batch-invariant asks for.
struct PrefillSplit {
  uint32_t target = 0;             // parts of all tiles that fill the device, for one KV head
  float* out = nullptr;            // [4 * target][num_kv_heads][rows of a tile][head_dim], not yet
                                   // divided by the sum
  float2* state = nullptr;         // [4 * target][num_kv_heads][rows]: maximum (base 2) and sum
  PrefillMerge* merges = nullptr;  // [4 * target]
  uint32_t* num_merges = nullptr;  // [1]

  uint32_t MaxParts() const { return 4 * target; }
};

// Device memory of the caller's, used by one step at a time.
struct PrefillTiles {
  PrefillTile* tiles;  // [MaxPrefillTiles + split.MaxParts()], those that take longest first
  uint32_t* count;     // [1]
  PrefillPath path;
  PrefillSplit split = {};
};

// Rows of one tile: new tokens times query heads that share a KV head.
uint32_t PrefillTileRows(PrefillPath path);

// New tokens of one tile, at least 1.
// REQUIRES: 1 <= group_size <= kPrefillMaxGroup.
uint32_t PrefillTileTokens(PrefillPath path, uint32_t group_size);

// No step of num_tokens new tokens in num_seqs sequences has more tiles than this.
uint32_t MaxPrefillTiles(PrefillPath path, uint32_t group_size, uint32_t num_tokens,
                         uint32_t num_seqs);

// Lists the tiles of the sequences with at least `min_new_tokens` new tokens; the others are left
// to the decode kernel. Reads query_start_loc and seq_lens on the device.
// REQUIRES: min_new_tokens >= 1.
void PlanPrefill(const PagedAttentionParams& params, uint32_t min_new_tokens,
                 const PrefillTiles& tiles, const Launch& launch);

// Writes the rows of params.out that `tiles` lists. `params` differ from those of PlanPrefill in
// what belongs to a layer only: pointers, scales and window.
// REQUIRES: head_dim 64, 128 or 256; block_size 16, 32 or 64; a KV dtype other than kF32.
void PagedPrefill(const PagedAttentionParams& params, const PrefillTiles& tiles,
                  const Launch& launch);

}  // namespace kvs::gpu
