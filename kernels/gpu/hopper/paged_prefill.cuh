// The prefill kernel for compute capability 9.0, after FlashAttention-3 (Shah et al. 2024): one
// warpgroup brings K and V into a ring in shared memory, and two compute with 64 rows each. While
// one of these two is at its softmax, the other has the tensor cores; and a warpgroup computes the
// softmax of one tile while its products with the values of the tile before run.
//
// There is one block per multiprocessor. Items, each a tile and a KV head, stand dearest first and
// are dealt out like cards, there and back, so that the blocks' shares come out even and both sides
// of a block know them without talking.
#pragma once

#include <algorithm>

#include "gpu/hopper/barrier.cuh"
#include "gpu/hopper/wgmma.cuh"
#include "gpu/paged_prefill_copy.cuh"
#include "gpu/paged_prefill_instances.h"
#include "gpu/paged_prefill_tile.cuh"

namespace kvs::gpu::hopper {

template <KvCacheDType dtype, uint32_t kHeadDim_>
struct PrefillTraits {
  using Read = KvRead<dtype>;
  using Compute = typename Read::Compute;
  static constexpr uint32_t kHeadDim = kHeadDim_;
  static constexpr uint32_t kPositions = 128;          // of a tile
  static constexpr uint32_t kBlocks = kPositions / 8;  // of 8 columns of scores
  static constexpr uint32_t kConsumers = 2;            // warpgroups of 64 rows
  static constexpr uint32_t kThreads = (1 + kConsumers) * kWarpgroupThreads;
  static constexpr uint32_t kPanelBytes = kPositions * 128;
  using Copy = KvTileCopy<dtype, kHeadDim, kPositions, kWarpgroupThreads>;
  // A slot holds K or V of one tile. With FP8 the same room is shared with codes on their way.
  static constexpr uint32_t kSlots = Copy::kIsFp8 ? 4 : 6;
  static constexpr uint32_t kRawSlots = Copy::kIsFp8 ? 4 : 0;
  static constexpr uint32_t kRawAt = kSlots * Copy::kTileBytes;
  static constexpr uint32_t kBarriersAt = kRawAt + kRawSlots * Copy::kRawBytes;
  static constexpr uint32_t kSharedBytes = kBarriersAt + 2 * kSlots * sizeof(SharedBarrier);
  // Together what the block starts with: 168 for each thread.
  static constexpr uint32_t kProducerRegisters = 56;
  static constexpr uint32_t kConsumerRegisters = 224;
  static_assert(kConsumers * 64 == kHopperPrefillRows);
};

// A place in the ring.
template <uint32_t kSlots>
struct RingCursor {
  uint32_t slot = 0;
  uint32_t parity = 0;

  KVS_DEVICE void Advance(uint32_t by) {
    slot += by;
    if (slot < kSlots) return;
    slot -= kSlots;
    parity ^= 1;
  }
};

template <class Traits>
struct Ring {
  using Cursor = RingCursor<Traits::kSlots>;
  uint8_t* shared;

  KVS_DEVICE uint8_t* Slot(Cursor at) const { return shared + at.slot * Traits::Copy::kTileBytes; }
  KVS_DEVICE uint8_t* RawSlot(uint32_t i) const {
    return shared + Traits::kRawAt + i % Traits::kRawSlots * Traits::Copy::kRawBytes;
  }
  KVS_DEVICE SharedBarrier& Full(Cursor at) const { return Barriers()[at.slot]; }
  KVS_DEVICE SharedBarrier& Empty(Cursor at) const { return Barriers()[Traits::kSlots + at.slot]; }

  // By one thread.
  KVS_DEVICE void Init() const {
    for (uint32_t i = 0; i < Traits::kSlots; ++i) {
      Full({i}).Init(kWarpgroupThreads);
      Empty({i}).Init(Traits::kConsumers * kWarpgroupThreads / kWarpSize);
    }
  }

  KVS_DEVICE void WaitFull(Cursor at) const {
    Full(at).Wait(at.parity);
    if constexpr (!Traits::Copy::kIsFp8) FenceForMatrixReads();
  }
  KVS_DEVICE void WaitEmpty(Cursor at) const { Empty(at).Wait(at.parity ^ 1); }
  // By every producing thread, when its part of the slot has been stored, or is being copied.
  KVS_DEVICE void MarkFull(Cursor at) const {
    if constexpr (Traits::Copy::kIsFp8) {
      FenceForMatrixReads();
      Full(at).Arrive();
    } else {
      Full(at).ArriveAfterCopies();
    }
  }
  // By every consuming warp, when its products have read the slot.
  KVS_DEVICE void MarkEmpty(Cursor at) const {
    if (threadIdx.x % kWarpSize == 0) Empty(at).Arrive();
  }

 private:
  KVS_DEVICE SharedBarrier* Barriers() const {
    return reinterpret_cast<SharedBarrier*>(shared + Traits::kBarriersAt);
  }
};

// What all warpgroups of a block walk through.
struct PrefillItems {
  const PagedAttentionParams& params;
  const PrefillTile* tiles;
  uint32_t num_items;
  uint32_t tile_tokens;

  // Calls visit(TileRows, first position, end of positions) for the block's items.
  template <uint32_t kPositions, class Visit>
  KVS_DEVICE void ForEach(Visit&& visit) const {
    const uint32_t num_kv_heads = params.kv.layout.num_kv_heads;
    for (uint32_t round = 0;; ++round) {
      const uint32_t turn = round % 2 == 0 ? blockIdx.x : gridDim.x - 1 - blockIdx.x;
      const uint32_t item = round * gridDim.x + turn;
      if (round * gridDim.x >= num_items) return;
      if (item >= num_items) continue;
      const TileRows rows(params, tiles[item / num_kv_heads], item % num_kv_heads, tile_tokens);
      visit(rows, rows.SomeBegin() / kPositions * kPositions, rows.SomeEnd());
    }
  }
};

// K and V of one item, 16-bit: copied into the ring directly, as far ahead as there is room.
template <class Traits>
KVS_DEVICE void Produce16(const Ring<Traits>& ring, typename Ring<Traits>::Cursor& at,
                          typename Traits::Copy& copy, uint32_t first, uint32_t end) {
  const auto start = [&]<KvPlane plane>() {
    ring.WaitEmpty(at);
    copy.template Start<plane>(ring.Slot(at), first);
    ring.MarkFull(at);
    at.Advance(1);
  };
  copy.LookUp(first);
  for (; first < end; first += Traits::kPositions) {
    start.template operator()<KvPlane::kKeys>();
    start.template operator()<KvPlane::kValues>();
    copy.LookUp(first + Traits::kPositions);
  }
}

// K and V of one item, FP8: copied ahead as they are stored, widened into the ring.
template <class Traits>
KVS_DEVICE void ProduceFp8(const Ring<Traits>& ring, typename Ring<Traits>::Cursor& at,
                           typename Traits::Copy& copy, uint32_t first, uint32_t end) {
  constexpr uint32_t kAhead = Traits::kRawSlots / 2;  // tiles, K and V
  uint32_t started = 0, widened = 0;                  // raw slots
  uint32_t next = first;
  const auto start_tile = [&] {
    if (next < end) {
      copy.template Start<KvPlane::kKeys>(ring.RawSlot(started), next);
      CommitAsyncCopies();
      copy.template Start<KvPlane::kValues>(ring.RawSlot(started + 1), next);
      CommitAsyncCopies();
      next += Traits::kPositions;
      copy.LookUp(next);
    } else {  // The groups that are waited for are counted.
      CommitAsyncCopies();
      CommitAsyncCopies();
    }
    started += 2;
  };
  const auto widen = [&] {
    ring.WaitEmpty(at);
    copy.Widen(ring.RawSlot(widened++), ring.Slot(at));
    ring.MarkFull(at);
    at.Advance(1);
  };
  copy.LookUp(first);
  for (uint32_t i = 0; i < kAhead; ++i) start_tile();
  for (; first < end; first += Traits::kPositions) {
    WaitAsyncCopies<2 * kAhead - 1>();
    widen();
    WaitAsyncCopies<2 * kAhead - 2>();
    widen();
    start_tile();
  }
}

template <class Traits>
KVS_DEVICE void Produce(const Ring<Traits>& ring, const PrefillItems& items) {
  typename Ring<Traits>::Cursor at;
  items.template ForEach<Traits::kPositions>(
      [&](const TileRows& rows, uint32_t first, uint32_t end) {
        typename Traits::Copy copy(items.params, rows, threadIdx.x % kWarpgroupThreads);
        if constexpr (Traits::Copy::kIsFp8) {
          ProduceFp8(ring, at, copy, first, end);
        } else {
          Produce16(ring, at, copy, first, end);
        }
      });
}

// The state of 64 rows in the registers of a warpgroup.
template <class Traits>
struct ConsumerRows {
  static constexpr uint32_t kSteps = Traits::kPositions / 16;
  using Compute = typename Traits::Compute;

  uint32_t queries[Traits::kHeadDim / 16][4];
  float scores[Traits::kBlocks][4];
  uint32_t probabilities[kSteps][4];
  float accumulated[Traits::kHeadDim / 8][4];
  RowSoftmax softmax;

  // scores = queries * keys^T.
  KVS_DEVICE void StartScores(const uint8_t* keys) {
    const uint64_t tile = DescribeTile(keys, Traits::kPanelBytes);
    FenceRegisters(scores);
    BeginProducts();
#pragma unroll
    for (uint32_t k = 0; k < Traits::kHeadDim / 16; ++k) {
      const uint32_t at = k / 4 * Traits::kPanelBytes + k % 4 * 32;
      Multiply<Compute, false>(scores, queries[k], Advance(tile, at), k != 0);
    }
    CommitProducts();
  }

  // accumulated += probabilities * values.
  KVS_DEVICE void StartValues(const uint8_t* values) {
    const uint64_t tile = DescribeTile(values, Traits::kPanelBytes);
    FenceRegisters(accumulated);
    BeginProducts();
#pragma unroll
    for (uint32_t k = 0; k < kSteps; ++k) {
      Multiply<Compute, true>(accumulated, probabilities[k], Advance(tile, k * 16 * 128), true);
    }
    CommitProducts();
  }

  KVS_DEVICE void Rescale(const float (&correction)[2]) {
#pragma unroll
    for (uint32_t n = 0; n < Traits::kHeadDim / 8; ++n) {
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) accumulated[n][i] *= correction[i / 2];
    }
  }

  KVS_DEVICE void PackProbabilities() {
#pragma unroll
    for (uint32_t k = 0; k < kSteps; ++k) {
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) {
        const float* pair = &scores[2 * k + i / 2][i % 2 * 2];
        probabilities[k][i] = Pack2<Compute>(pair[0], pair[1]);
      }
    }
  }
};

// The two consumers take turns at issuing products.
struct Turns {
  uint32_t consumer;  // 0 or 1
  bool alone;

  KVS_DEVICE void Wait() const {
    if (!alone) WaitNamedBarrier(1 + consumer, 2 * kWarpgroupThreads);
  }
  KVS_DEVICE void Pass() const {
    if (!alone) ArriveNamedBarrier(2 - consumer, 2 * kWarpgroupThreads);
  }
};

// One item's 64 rows from `first_row` of the warp on. `keys` and `values` are where the item's
// first tile comes to lie, and afterwards where the next item's will.
template <class Traits>
KVS_DEVICE void ConsumeItem(const Ring<Traits>& ring, typename Ring<Traits>::Cursor& keys,
                            typename Ring<Traits>::Cursor& values, const Turns& turns,
                            const PagedAttentionParams& params, DType act, const TileRows& rows,
                            uint32_t first_row, uint32_t first, uint32_t end) {
  ConsumerRows<Traits> state;
  LoadQueries<typename Traits::Compute, Traits::kHeadDim>(state.queries, act, params, rows,
                                                          first_row);
  const RowLimits limits(rows, first_row);
  const float scale =
      params.sm_scale * params.kv.k_scale[rows.kv_head] * Traits::Read::kRescale * 1.44269504f;
#pragma unroll
  for (uint32_t n = 0; n < Traits::kHeadDim / 8; ++n) {
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) state.accumulated[n][i] = 0;
  }
  float correction[2];
  const auto update_softmax = [&] {
    if (first < rows.AllBegin() || first + Traits::kPositions > rows.AllEnd()) {
      limits.Apply(state.scores, first);
    }
    state.softmax.Update(state.scores, scale, correction);
  };

  ring.WaitFull(keys);
  state.StartScores(ring.Slot(keys));
  WaitProducts<0>();
  FenceRegisters(state.scores);
  ring.MarkEmpty(keys);
  keys.Advance(2);
  update_softmax();
  state.PackProbabilities();
  if (first + Traits::kPositions < end) ring.WaitFull(keys);
  for (first += Traits::kPositions; first < end; first += Traits::kPositions) {
    turns.Wait();
    state.StartScores(ring.Slot(keys));
    ring.WaitFull(values);
    state.StartValues(ring.Slot(values));
    turns.Pass();
    WaitProducts<1>();
    FenceRegisters(state.scores);
    ring.MarkEmpty(keys);
    keys.Advance(2);
    update_softmax();
    // Not at the head of the loop: the assembler would move the wait for products, below, before
    // the softmax that is to run beside them, were it not for the branch of this one.
    if (first + Traits::kPositions < end) ring.WaitFull(keys);
    WaitProducts<0>();
    FenceRegisters(state.accumulated);
    ring.MarkEmpty(values);
    values.Advance(2);
    state.Rescale(correction);
    state.PackProbabilities();
  }
  ring.WaitFull(values);
  state.StartValues(ring.Slot(values));
  WaitProducts<0>();
  FenceRegisters(state.accumulated);
  ring.MarkEmpty(values);
  values.Advance(2);
  const float v_scale = params.kv.v_scale[rows.kv_head] * Traits::Read::kRescale;
  StoreRows<Traits::kHeadDim>(state.accumulated, state.softmax, v_scale, act, params, rows,
                              first_row);
}

template <class Traits>
KVS_DEVICE void Consume(const Ring<Traits>& ring, const PrefillItems& items, DType act) {
  const uint32_t consumer = threadIdx.x / kWarpgroupThreads - 1;
  const uint32_t first_row = (threadIdx.x - kWarpgroupThreads) / kWarpSize * 16;
  typename Ring<Traits>::Cursor keys, values;
  values.Advance(1);
  if (consumer == 1) Turns{consumer, false}.Pass();
  items.template ForEach<Traits::kPositions>(
      [&](const TileRows& rows, uint32_t first, uint32_t end) {
        if (consumer * 64 < rows.num_rows()) {
          const Turns turns{consumer, rows.num_rows() <= 64};
          ConsumeItem<Traits>(ring, keys, values, turns, items.params, act, rows, first_row, first,
                              end);
          return;
        }
        for (; first < end; first += Traits::kPositions) {  // No rows here: let it pass.
          ring.WaitFull(keys);
          ring.MarkEmpty(keys);
          keys.Advance(2);
          ring.WaitFull(values);
          ring.MarkEmpty(values);
          values.Advance(2);
        }
      });
}

template <class Traits>
__global__ void __launch_bounds__(Traits::kThreads, 1)
    PagedPrefillKernel(const KVS_GRID_CONSTANT PagedAttentionParams params,
                       const KVS_GRID_CONSTANT PrefillTiles tiles, uint32_t tile_tokens,
                       DType act) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) uint8_t hopper_shared[];
  const Ring<Traits> ring{hopper_shared};
  if (threadIdx.x == 0) ring.Init();
  __syncthreads();
  WaitForPreviousKernel();
  AllowNextKernel();
  const PrefillItems items{params, tiles.tiles, *tiles.count * params.kv.layout.num_kv_heads,
                           tile_tokens};
  if (threadIdx.x < kWarpgroupThreads) {
    GiveRegisters<Traits::kProducerRegisters>();
    Produce(ring, items);
  } else {
    TakeRegisters<Traits::kConsumerRegisters>();
    Consume(ring, items, act);
  }
#else
  __trap();  // Chosen for compute capability 9.0 alone.
#endif
}

}  // namespace kvs::gpu::hopper

namespace kvs::gpu {

template <KvCacheDType dtype, uint32_t kHeadDim>
void RunHopperPrefill(const PagedAttentionParams& params, const PrefillTiles& tiles,
                      const PrefillGrid& grid, const Launch& launch) {
  using Traits = hopper::PrefillTraits<dtype, kHeadDim>;
  static const bool allowed = [] {
    AllowShared(hopper::PagedPrefillKernel<Traits>, Traits::kSharedBytes);
    return true;
  }();
  static_cast<void>(allowed);
  const auto processors = static_cast<uint32_t>(launch.facts->num_multiprocessors);
  LaunchKernel(hopper::PagedPrefillKernel<Traits>, dim3(std::min(grid.num_blocks, processors)),
               dim3(Traits::kThreads), Traits::kSharedBytes, launch, params, tiles,
               grid.tile_tokens, launch.act);
}

}  // namespace kvs::gpu
