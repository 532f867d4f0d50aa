// The producing side of Hopper's prefill kernel: how K and V come into its ring.
//
// 16 bits: the copy engine brings boxes of 16 positions, swizzled on the way; one warp starts them.
// FP8: it brings runs of codes, and four warps widen them into the ring, each 32 positions of every
// tile, from codes that it alone waits for.
#pragma once

#include "gpu/hopper/bulk_copy.cuh"
#include "gpu/hopper/prefill_ring.cuh"
#include "gpu/paged_prefill_copy.cuh"
#include "gpu/paged_prefill_tile.cuh"

namespace kvs::gpu::hopper {

inline constexpr uint32_t kCopyRows = 16;  // positions that lie in one block

// Where the positions of one sequence and KV head lie, in runs of kCopyRows.
struct KvRuns {
  const BlockId* table;
  uint32_t block_shift;
  uint32_t last;  // position of the last run that is read

  KVS_DEVICE KvRuns(const PagedAttentionParams& params, const TileRows& rows, uint32_t end)
      : table(params.block_tables + size_t{rows.seq} * params.max_blocks_per_seq),
        block_shift(params.kv.layout.BlockShift()),
        last((end - 1) / kCopyRows * kCopyRows) {}

  // Runs past the last stand for it.
  KVS_DEVICE uint32_t Clamp(uint32_t position) const { return position < last ? position : last; }
  KVS_DEVICE uint32_t Block(uint32_t position) const {
    return table[Clamp(position) >> block_shift].value;
  }
  KVS_DEVICE uint32_t WithinBlock(uint32_t position) const {
    return Clamp(position) & ((1u << block_shift) - 1);
  }
};

// K and V of one item, 16-bit, by one warp, as far ahead as there is room. Positions from `end` on
// become zero in V: memory never written must not meet a probability of zero as NaN.
template <class Traits>
class BoxProducer {
 public:
  KVS_DEVICE BoxProducer(const Ring<Traits>& ring, const TensorMap& map)
      : ring_(ring), map_(map), lane_(threadIdx.x % kWarpSize) {
    if (lane_ == 0) PrefetchMap(map);
  }

  KVS_DEVICE void Produce(const PagedAttentionParams& params, const TileRows& rows, uint32_t first,
                          uint32_t end) {
    const KvRuns runs(params, rows, end);
    const uint32_t plane_rows = params.kv.layout.block_size;
    const uint32_t head_rows = 2 * plane_rows;
    const uint32_t own = lane_ % kRuns * kCopyRows;  // of a tile's positions, this lane's run
    const auto row_at = [&](uint32_t position, uint32_t block) {
      return (block * params.kv.layout.num_kv_heads + rows.kv_head) * head_rows +
             runs.WithinBlock(position);
    };
    uint32_t block = runs.Block(first + own);
    for (; first < end; first += Traits::kPositions) {
      const uint32_t row = row_at(first + own, block);
      block = runs.Block(first + Traits::kPositions + own);
      Start(ring_.Full(at_), row);
      at_.Advance(1);
      if (first + Traits::kPositions <= end) {
        Start(ring_.Full(at_), row + plane_rows);
      } else {
        Start(ring_.Tail(), row + plane_rows);
        ring_.Tail().Wait(tail_parity_);
        tail_parity_ ^= 1;
        ClearFrom(end - first);
      }
      at_.Advance(1);
    }
  }

 private:
  static constexpr uint32_t kRuns = Traits::kPositions / kCopyRows;
  static constexpr uint32_t kPanels = Traits::kHeadDim / 64;
  static_assert(kCopyRows == kKvBoxRows && kRuns * kPanels <= kWarpSize);

  KVS_DEVICE void Start(SharedBarrier& barrier, uint32_t row) {
    ring_.WaitEmpty(at_);
    if (lane_ == 0) barrier.ArriveExpecting(Traits::kTileBytes);
    SyncWarp();
    if (lane_ < kRuns * kPanels) {
      const uint32_t panel = lane_ / kRuns;
      CopyBox(ring_.Slot(at_) + panel * Traits::kPanelBytes + lane_ % kRuns * kCopyRows * 128, map_,
              panel * kBoxBytes, row, barrier);
    }
  }

  // Rows `row` and following of the slot, which has come; then the slot is full.
  KVS_DEVICE void ClearFrom(uint32_t row) {
    uint8_t* slot = ring_.Slot(at_);
#pragma unroll
    for (uint32_t panel = 0; panel < kPanels; ++panel) {
      auto* pieces = reinterpret_cast<uint4*>(slot + panel * Traits::kPanelBytes);
      for (uint32_t i = row * 8 + lane_; i < Traits::kPositions * 8; i += kWarpSize) {
        pieces[i] = uint4{0, 0, 0, 0};
      }
    }
    FenceForMatrixReads();
    SyncWarp();
    if (lane_ == 0) ring_.Full(at_).Arrive();
  }

  const Ring<Traits>& ring_;
  const TensorMap& map_;
  const uint32_t lane_;
  typename Ring<Traits>::Cursor at_;
  uint32_t tail_parity_ = 0;
};

// K and V of one item, FP8, by each of four warps. Positions from `end` on become zero.
template <class Traits>
class CodeProducer {
 public:
  KVS_DEVICE explicit CodeProducer(const Ring<Traits>& ring)
      : ring_(ring), warp_(threadIdx.x / kWarpSize), lane_(threadIdx.x % kWarpSize) {}

  KVS_DEVICE void Produce(const PagedAttentionParams& params, const TileRows& rows, uint32_t first,
                          uint32_t end) {
    const KvRuns runs(params, rows, end);
    const KvLayout& layout = params.kv.layout;
    const auto* data =
        static_cast<const uint8_t*>(params.kv.data) + layout.KOffset(BlockId{0}, rows.kv_head);
    const auto block_bytes = static_cast<uint32_t>(layout.KOffset(BlockId{1}, 0));
    const uint32_t own = warp_ * kWarpRows + lane_ % kRuns * kCopyRows;  // this lane's run
    uint32_t next = first, plane = 0;                                    // to be copied
    uint32_t block = runs.Block(next + own);
    const auto start = [&] {
      if (next >= end) return;
      Start(data + size_t{block} * block_bytes + plane * layout.PlaneElements() +
            runs.WithinBlock(next + own) * Traits::kHeadDim);
      if (plane != 0) {
        next += Traits::kPositions;
        block = runs.Block(next + own);
      }
      plane ^= 1;
    };
    for (uint32_t i = 0; i < Traits::kRawStages; ++i) start();
    for (; first < end; first += Traits::kPositions) {
#pragma unroll 1
      for (uint32_t i = 0; i < 2; ++i) {
        const uint32_t stage = taken_ % Traits::kRawStages;
        ring_.Raw(warp_, stage).Wait(taken_ / Traits::kRawStages % 2);
        ++taken_;
        if (first + Traits::kPositions <= end) {
          Widen<false>(ring_.RawSlot(warp_, stage), 0);
        } else {
          Widen<true>(ring_.RawSlot(warp_, stage), end - first);
        }
        start();  // Every lane has read the stage: Widen ends with all of them together.
      }
    }
  }

 private:
  static constexpr uint32_t kWarpRows = Traits::kPositions / 4;
  static constexpr uint32_t kRuns = kWarpRows / kCopyRows;
  static constexpr uint32_t kRowPieces = Traits::kHeadDim / 16;
  static constexpr uint32_t kRowStep = kWarpSize / kRowPieces;  // rows that the warp takes at once
  static constexpr uint32_t kSteps = kWarpRows / kRowStep;
  static constexpr uint32_t kBatch = 4;  // steps whose codes are read before the first is stored
  static_assert(kRuns == 2 && kSteps % kBatch == 0);

  KVS_DEVICE void Start(const uint8_t* from) {
    const uint32_t stage = started_ % Traits::kRawStages;
    ++started_;
    const SharedBarrier& barrier = ring_.Raw(warp_, stage);
    if (lane_ == 0) ring_.Raw(warp_, stage).ArriveExpecting(Traits::kWarpRawBytes);
    SyncWarp();
    if (lane_ < kRuns) {
      constexpr uint32_t kRunBytes = kCopyRows * Traits::kHeadDim;
      BulkCopy(ring_.RawSlot(warp_, stage) + lane_ * kRunBytes, from, kRunBytes, barrier);
    }
  }

  // This warp's rows of K or V into the ring's next slot; rows of the tile from `valid` on are
  // zero.
  template <bool kTail>
  KVS_DEVICE void Widen(const uint8_t* raw, uint32_t valid) {
    ring_.WaitEmpty(at_);
    // Eight lanes that load and store together take half a row and the other half of the next:
    // codes of all banks, and chunks that the rows' swizzles put into all banks.
    const bool two_panels = Traits::kHeadDim > 64;
    const uint32_t piece = lane_ % 4 + (two_panels && lane_ / 4 % 2 != lane_ / 8 % 2 ? 4 : 0);
    const uint32_t row = two_panels ? lane_ / 16 * 2 + lane_ / 4 % 2 : lane_ / 4;
    const uint8_t* from = raw + row * Traits::kHeadDim + piece * 16;
    uint8_t* slot = ring_.Slot(at_) + warp_ * kWarpRows * 128;
    const uint32_t chunk = TileOffset<Traits::kPositions>(row, 2 * piece);
#pragma unroll
    for (uint32_t batch = 0; batch < kSteps; batch += kBatch) {
      uint4 codes[kBatch];
#pragma unroll
      for (uint32_t i = 0; i < kBatch; ++i) {
        codes[i] = *reinterpret_cast<const uint4*>(from + (batch + i) * (16 * kWarpSize));
      }
#pragma unroll
      for (uint32_t i = 0; i < kBatch; ++i) {
        const uint32_t step = (batch + i) * kRowStep;
        if (kTail && warp_ * kWarpRows + row + step >= valid) codes[i] = uint4{0, 0, 0, 0};
        // The row's number decides its swizzle, and `row` is below kRowStep.
        uint8_t* to = slot + step * 128;
        StoreWide(to + (chunk ^ step % 8 * 16), codes[i].x, codes[i].y);
        StoreWide(to + (chunk ^ 16 ^ step % 8 * 16), codes[i].z, codes[i].w);
      }
    }
    FenceForMatrixReads();
    SyncWarp();
    if (lane_ == 0) ring_.Full(at_).Arrive();
    at_.Advance(1);
  }

  KVS_DEVICE static void StoreWide(uint8_t* to, uint32_t low, uint32_t high) {
    using Read = typename Traits::Read;
    *reinterpret_cast<uint4*>(to) = {Read::Widen2(low, 0), Read::Widen2(low, 1),
                                     Read::Widen2(high, 0), Read::Widen2(high, 1)};
  }

  const Ring<Traits>& ring_;
  const uint32_t warp_, lane_;
  typename Ring<Traits>::Cursor at_;
  uint32_t started_ = 0, taken_ = 0;  // stages of codes, over all items
};

}  // namespace kvs::gpu::hopper
