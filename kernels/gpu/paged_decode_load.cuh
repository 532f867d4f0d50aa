// How a warp of the decode attention kernel walks its block's piece of the plan and brings the K
// and V of its tokens into shared memory.
#pragma once

#include "gpu/async_copy.cuh"
#include "gpu/paged_decode.h"

namespace kvs::gpu {

// Where a 16-byte piece of a row stands in shared memory: pieces of eight neighbouring rows lie in
// different banks, and so do four neighbouring pieces of an even row and of the next. A row turns
// bits of its pieces' numbers over and adds none, so that a lane computes the place of one piece,
// and meets the others' distances, constants, by addition (rows) and exclusive or (pieces).
template <uint32_t kRowBytes>
KVS_DEVICE constexpr uint32_t SwizzleFlip(uint32_t row) {
  return 16 * (kRowBytes == 64 ? (row >> 1) & 3 : ((row & 1) << 2) | ((row >> 1) & 3));
}
template <uint32_t kRowBytes>
KVS_DEVICE constexpr uint32_t SwizzledOffset(uint32_t row, uint32_t piece) {
  return row * kRowBytes + ((piece * 16) ^ SwizzleFlip<kRowBytes>(row));
}

// Walks the tiles of a piece in order.
struct DecodeCursor {
  uint32_t piece;
  uint32_t seq;
  uint32_t kv_head;
  uint32_t tile;
  uint32_t left;  // tiles of the piece, this one included
  DecodeSeq info;

  KVS_DEVICE explicit DecodeCursor(const DecodePiece& from)
      : piece(from.index),
        seq(from.seq),
        kv_head(from.kv_head),
        tile(from.tile),
        left(from.num_tiles),
        info(from.info) {}
  KVS_DEVICE bool AtPairEnd() const {
    return left == 1 || tile + 1 == info.first_tile + info.num_tiles;
  }
  // True when the next tile belongs to another pair.
  KVS_DEVICE bool Advance(const DecodePlan& plan, uint32_t num_kv_heads) {
    --left;
    if (++tile < info.first_tile + info.num_tiles || left == 0) return false;
    if (++kv_head == num_kv_heads) {
      kv_head = 0;
      do {
        info = plan.seqs[++seq];
      } while (info.num_tiles == 0);
    }
    tile = info.first_tile;
    return true;
  }
};

// A warp's loads. Its lanes hold the block ids of 32 runs of 16 tokens: of the block's first tiles
// as the planner has looked them up, later of this warp's own runs.
template <class Traits>
struct DecodeLoader {
  // The copies of 16 tokens of K, and beside each of V; 1 KiB of both. They are closed in groups of
  // at most 4 KiB, which is what a warp has on its way while it paces itself.
  static constexpr uint32_t kRunCopies = Traits::kRowPieces * 16 / kWarpSize;
  static constexpr uint32_t kGroupCopies = kRunCopies < 4 ? kRunCopies : 4;
  static constexpr int kRunGroups = kRunCopies / kGroupCopies;
  static constexpr int kGroups = kRunGroups * Traits::kRowTiles;  // of a tile
  static constexpr int kPacedGroups = 4 / kGroupCopies;

  const PagedAttentionParams& params;
  const DecodePlan& plan;
  DecodeCursor at;
  uint8_t* stages;
  uint32_t warp;
  uint32_t lane;
  uint32_t id;
  uint32_t ids_tile;  // the first that `id` serves
  uint32_t tile_tokens;
  uint32_t ids_per_tile = tile_tokens / kDecodeRun;  // lanes from tile to tile
  uint32_t ids_first = warp * Traits::kRowTiles;     // the lane of this warp's first run
  // Where this lane's first copy of a run of 16 tokens lies: row, place in the cache, and place in
  // shared memory.
  uint32_t lane_row;
  uint32_t lane_bytes;
  uint32_t lane_offset;
  uint32_t block_bytes;
  uint32_t plane_bytes;
  uint32_t block_shift;

  KVS_DEVICE DecodeLoader(const PagedAttentionParams& p, const DecodePlan& d,
                          const DecodeCursor& first, uint32_t tokens, uint8_t* to, uint32_t w,
                          uint32_t l)
      : params(p),
        plan(d),
        at(first),
        stages(to),
        warp(w),
        lane(l),
        id(d.first_blocks[blockIdx.x * kDecodePlannedRuns + l]),
        ids_tile(first.tile),
        tile_tokens(tokens),
        lane_row(Kept(l / Traits::kRowPieces)),
        lane_bytes(Kept(l * 16)),
        lane_offset(Kept(
            SwizzledOffset<Traits::kRowBytes>(l / Traits::kRowPieces, l % Traits::kRowPieces))),
        block_bytes(
            Kept(static_cast<uint32_t>(p.kv.layout.KOffset(BlockId{1}, 0) * Traits::kBytes))),
        plane_bytes(Kept(static_cast<uint32_t>(p.kv.layout.PlaneElements() * Traits::kBytes))),
        block_shift(p.kv.layout.BlockShift()) {
    static_assert(kDecodePlannedRuns == kWarpSize);
  }

  KVS_DEVICE uint32_t FirstToken() const { return at.tile * tile_tokens + warp * Traits::kTokens; }

  KVS_DEVICE void FetchIds() {
    ids_tile = at.tile;
    ids_per_tile = Traits::kRowTiles;
    ids_first = 0;
    const uint32_t token = FirstToken() + lane / Traits::kRowTiles * tile_tokens +
                           lane % Traits::kRowTiles * kDecodeRun;
    const size_t row = size_t{at.seq} * params.max_blocks_per_seq;
    id = token < at.info.seq_len ? params.block_tables[row + (token >> block_shift)].value : 0;
  }

  // Whether the next tile is there and was written before this step: none of the newest tokens,
  // which the kernel in front may still be writing, is in it; or this kernel brings the newest
  // itself (`has_rope`). A plan's first launch waits for all steps before (Launch::dependent).
  KVS_DEVICE bool NextIsOld(bool has_rope) const {
    const bool is_old = (at.tile + 1) * tile_tokens + kDecodeMaxNewTokens <= at.info.seq_len;
    return at.left > 0 && (has_rope || is_old);
  }

  // Until the tile that was asked for longest ago has come, of `num_stages`: kStages or 2.
  KVS_DEVICE void AwaitOldest(uint32_t num_stages) const {
    if (num_stages == Traits::kStages) {
      WaitAsyncCopies<(static_cast<int>(Traits::kStages) - 1) * kGroups>();
    } else {
      WaitAsyncCopies<kGroups>();
    }
    SyncWarp();
  }

  // Starts the copies of the next tile into `stage`, if there is one, in kGroups groups. `paced`:
  // each once most of those before have arrived. What a kernel has on its way before it is wanted
  // is what the reads of those that run must wait behind.
  KVS_DEVICE void LoadNext(uint32_t stage, bool paced) {
    const bool exists = at.left > 0;
    if (exists && (at.tile - ids_tile) * ids_per_tile >= kWarpSize) FetchIds();
    const uint32_t holder = (at.tile - ids_tile) * ids_per_tile + ids_first;
#pragma unroll
    for (uint32_t r = 0; r < Traits::kRowTiles; ++r) {
      uint8_t* to = stages + stage * Traits::kStageBytes + r * 16 * Traits::kRowBytes;
      if (exists) {
        CopyRows(ShuffleFrom(id, holder + r), FirstToken() + r * 16, paced, to);
      } else {
#pragma unroll
        for (int i = 0; i < kRunGroups; ++i) CommitAsyncCopies();
      }
    }
    if (exists && at.Advance(plan, params.kv.layout.num_kv_heads)) FetchIds();
  }

  // K and V of 16 tokens that lie in one block.
  KVS_DEVICE void CopyRows(uint32_t block, uint32_t token, bool paced, uint8_t* to) {
    const uint32_t in_block = token & ((1u << block_shift) - 1);
    const uint32_t within =
        at.kv_head * 2 * plane_bytes + in_block * Traits::kRowBytes + lane_bytes;
    const uint8_t* k =
        static_cast<const uint8_t*>(params.kv.data) + (size_t{block} * block_bytes + within);
    const uint8_t* v = k + plane_bytes;
    const int32_t left = static_cast<int32_t>(at.info.seq_len - token - lane_row);
#pragma unroll
    for (uint32_t i = 0; i < kRunCopies; ++i) {
      if (i % kGroupCopies == 0 && paced) WaitAsyncCopies<kPacedGroups - 1>();
      const uint32_t row = i * (kWarpSize / Traits::kRowPieces);
      uint8_t* there =
          to + (lane_offset ^ SwizzleFlip<Traits::kRowBytes>(row)) + row * Traits::kRowBytes;
      // Rows beyond the sequence become zero: whatever stands there must not reach the sums.
      const bool is_valid = static_cast<int32_t>(row) < left;
      AsyncCopy16(there, k + i * kWarpSize * 16, is_valid);
      AsyncCopy16(there + Traits::kPlaneBytes, v + i * kWarpSize * 16, is_valid);
      if (i % kGroupCopies == kGroupCopies - 1) CommitAsyncCopies();
    }
  }
};

}  // namespace kvs::gpu
