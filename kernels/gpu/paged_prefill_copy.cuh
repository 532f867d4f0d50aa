// The way of cached K and V into shared memory as 16-bit tiles that matrix instructions read.
//
// A tile [kRows positions][kHeadDim] stands as panels of 64 dimensions, each [kRows][64] with rows
// of 128 bytes. The eight 16-byte chunks of a row are permuted by the row's number modulo 8, so
// that a column of chunks lies in different banks: what Hopper's matrix instructions call the
// 128-byte swizzle. A tile starts at a multiple of 1024 bytes.
#pragma once

#include "gpu/async_copy.cuh"
#include "gpu/kv_read.cuh"
#include "gpu/paged_prefill_tile.cuh"

namespace kvs::gpu {

// Byte offset of dimensions [8 * chunk, 8 * chunk + 8) of `row`.
template <uint32_t kRows>
KVS_DEVICE constexpr uint32_t TileOffset(uint32_t row, uint32_t chunk) {
  return chunk / 8 * (kRows * 128) + row * 128 + ((chunk ^ row) % 8) * 16;
}

enum class KvPlane : uint8_t { kKeys, kValues };

// The share of one of kThreads threads in copying the tiles of one sequence and KV head. Copies are
// asynchronous. FP8 goes through memory of the thread's own, raw, and is widened from there once it
// has come: a thread needs to wait for its own copies only.
template <KvCacheDType dtype, uint32_t kHeadDim, uint32_t kRows, uint32_t kThreads>
class KvTileCopy {
 public:
  static constexpr bool kIsFp8 = SizeOf(dtype) == 1;
  static constexpr uint32_t kTileBytes = kRows * kHeadDim * 2;
  static constexpr uint32_t kRawBytes = kIsFp8 ? kRows * kHeadDim : 0;

  KVS_DEVICE KvTileCopy(const PagedAttentionParams& params, const TileRows& rows, uint32_t thread)
      : thread_(thread),
        row_(thread / kRowPieces),
        piece_(thread % kRowPieces),
        end_(rows.SomeEnd()),
        block_shift_(params.kv.layout.BlockShift()),
        last_block_((rows.SomeEnd() - 1) >> block_shift_),
        table_(params.block_tables + size_t{rows.seq} * params.max_blocks_per_seq) {
    const KvLayout& layout = params.kv.layout;
    constexpr uint32_t kBytes = SizeOf(dtype);
    data_ = static_cast<const uint8_t*>(params.kv.data) +
            layout.KOffset(BlockId{0}, rows.kv_head) * kBytes + piece_ * 16;
    block_bytes_ = static_cast<uint32_t>(layout.KOffset(BlockId{1}, 0) * kBytes);
    plane_bytes_ = static_cast<uint32_t>(layout.PlaneElements() * kBytes);
  }

  // Which blocks the tile at position `first` lies in. To be called before Start; early, for what
  // it reads is far away.
  KVS_DEVICE void LookUp(uint32_t first) {
#pragma unroll
    for (uint32_t i = 0; i < kIds; ++i) {
      const uint32_t block = (first + row_ + i * kRowsPerId * kRowStep) >> block_shift_;
      ids_[i] = table_[block < last_block_ ? block : last_block_].value;
    }
  }

  // Starts copying the tile at `first` to `to`: kTileBytes, or this call's kRawBytes of FP8.
  // Positions that no row sees become zero: memory never written must not meet a probability of
  // zero as NaN.
  template <KvPlane plane>
  KVS_DEVICE void Start(uint8_t* to, uint32_t first) const {
    const uint32_t block_mask = (1u << block_shift_) - 1;
    const uint8_t* data = data_ + (plane == KvPlane::kValues ? plane_bytes_ : 0);
#pragma unroll
    for (uint32_t i = 0; i < kPieces; ++i) {
      const uint32_t row = row_ + i * kRowStep;
      const uint8_t* from = data + size_t{ids_[i / kRowsPerId]} * block_bytes_ +
                            ((first + row) & block_mask) * kRowBytes;
      const uint32_t offset =
          kIsFp8 ? (i * kThreads + thread_) * 16 : TileOffset<kRows>(row, piece_);
      AsyncCopy16(to + offset, from, first + row < end_);
    }
  }

  // FP8 alone: what this thread copied to `raw`, as its part of `tile`.
  KVS_DEVICE void Widen(const uint8_t* raw, uint8_t* tile) const {
    // Threads of neighbouring panels store their two chunks in opposite order, for the banks' sake.
    const bool swap = piece_ / 4 % 2 != 0;
#pragma unroll
    for (uint32_t i = 0; i < kPieces; ++i) {
      const uint32_t row = row_ + i * kRowStep;
      const uint4 codes = reinterpret_cast<const uint4*>(raw)[i * kThreads + thread_];
      const uint4 first = swap ? Widen8(codes.z, codes.w) : Widen8(codes.x, codes.y);
      const uint4 second = swap ? Widen8(codes.x, codes.y) : Widen8(codes.z, codes.w);
      const uint32_t chunk = 2 * piece_ + (swap ? 1 : 0);
      *reinterpret_cast<uint4*>(tile + TileOffset<kRows>(row, chunk)) = first;
      *reinterpret_cast<uint4*>(tile + TileOffset<kRows>(row, chunk ^ 1)) = second;
    }
  }

 private:
  static constexpr uint32_t kRowBytes = kHeadDim * SizeOf(dtype);
  static constexpr uint32_t kRowPieces = kRowBytes / 16;
  static constexpr uint32_t kRowStep = kThreads / kRowPieces;
  static constexpr uint32_t kPieces = kRows / kRowStep;
  // Blocks hold 16 positions or more: of a thread's rows, neighbours share a block id.
  static constexpr uint32_t kRowsPerId = kRowStep < 16 ? 16 / kRowStep : 1;
  static constexpr uint32_t kIds = kPieces / kRowsPerId;
  static_assert(kThreads % kRowPieces == 0 && kRows % kRowStep == 0 && kPieces % kRowsPerId == 0);

  KVS_DEVICE static uint4 Widen8(uint32_t low, uint32_t high) {
    using Read = KvRead<dtype>;
    return {Read::Widen2(low, 0), Read::Widen2(low, 1), Read::Widen2(high, 0),
            Read::Widen2(high, 1)};
  }

  uint32_t thread_;
  uint32_t row_;
  uint32_t piece_;  // 16 bytes of a row as it is stored
  uint32_t end_;    // of the positions that are read
  uint32_t block_shift_;
  uint32_t last_block_;
  const BlockId* table_;
  const uint8_t* data_;
  uint32_t block_bytes_;
  uint32_t plane_bytes_;
  uint32_t ids_[kIds];
};

}  // namespace kvs::gpu
