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

#include "gpu/hopper/paged_prefill_load.cuh"
#include "gpu/hopper/wgmma.cuh"
#include "gpu/paged_prefill_tile.cuh"

namespace kvs::gpu::hopper {

// What all warpgroups of a block walk through.
struct PrefillItems {
  const PagedAttentionParams& params;
  const PrefillTile* tiles;
  uint32_t num_items;
  uint32_t tile_tokens;

  // Calls visit(PrefillTile, TileRows, first position, end of positions) for the block's items.
  template <uint32_t kPositions, class Visit>
  KVS_DEVICE void ForEach(Visit&& visit) const {
    const uint32_t num_kv_heads = params.kv.layout.num_kv_heads;
    for (uint32_t round = 0;; ++round) {
      const uint32_t turn = round % 2 == 0 ? blockIdx.x : gridDim.x - 1 - blockIdx.x;
      const uint32_t item = round * gridDim.x + turn;
      if (round * gridDim.x >= num_items) return;
      if (item >= num_items) continue;
      const PrefillTile tile = tiles[item / num_kv_heads];
      const TileRows rows(params, tile, item % num_kv_heads, tile_tokens);
      visit(tile, rows, FirstPosition(tile, rows.SomeBegin() / kPositions * kPositions),
            EndPosition(tile, rows.SomeEnd()));
    }
  }
};

template <class Traits>
KVS_DEVICE void Produce(const Ring<Traits>& ring, const PrefillItems& items, const TensorMap& map) {
  const auto produce_all = [&](auto producer) {
    items.template ForEach<Traits::kPositions>(
        [&](const PrefillTile&, const TileRows& rows, uint32_t first, uint32_t end) {
          producer.Produce(items.params, rows, first, end);
        });
  };
  if constexpr (Traits::kIsFp8) {
    produce_all(CodeProducer<Traits>(ring));
  } else if (threadIdx.x < kWarpSize) {
    produce_all(BoxProducer<Traits>(ring, map));
  }
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

// Writes the output of a warp's rows, or what a merge needs of them.
template <class Traits>
KVS_DEVICE void FinishRows(const ConsumerRows<Traits>& state, const PagedAttentionParams& params,
                           const PrefillSplit& split, DType act, const PrefillTile& tile,
                           const TileRows& rows, uint32_t first_row) {
  if (tile.part != PrefillTile::kWhole) {
    StorePartialRows<Traits::kHeadDim>(
        state.accumulated, state.softmax, rows, first_row,
        PartialRowsOf<Traits::kHeadDim>(split, tile.part, rows.kv_head,
                                        params.kv.layout.num_kv_heads, kHopperPrefillRows));
    return;
  }
  const float v_scale = params.kv.v_scale[rows.kv_head] * Traits::Read::kRescale;
  StoreRows<Traits::kHeadDim>(state.accumulated, state.softmax, v_scale, act, params, rows,
                              first_row);
}

// One item's 64 rows from `first_row` of the warp on. `keys` and `values` are where the item's
// first tile comes to lie, and afterwards where the next item's will.
template <class Traits>
KVS_DEVICE void ConsumeItem(const Ring<Traits>& ring, typename Ring<Traits>::Cursor& keys,
                            typename Ring<Traits>::Cursor& values, const Turns& turns,
                            const PagedAttentionParams& params, const PrefillSplit& split,
                            DType act, const PrefillTile& tile, const TileRows& rows,
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
    // Most tiles raise no maximum, and a factor of 1 changes no bit.
    if (AnyInWarp(correction[0] != 1.0f || correction[1] != 1.0f)) {
      state.Rescale(correction);
    }
    state.PackProbabilities();
  }
  ring.WaitFull(values);
  state.StartValues(ring.Slot(values));
  WaitProducts<0>();
  FenceRegisters(state.accumulated);
  ring.MarkEmpty(values);
  values.Advance(2);
  FinishRows(state, params, split, act, tile, rows, first_row);
}

template <class Traits>
KVS_DEVICE void Consume(const Ring<Traits>& ring, const PrefillItems& items,
                        const PrefillSplit& split, DType act) {
  const uint32_t consumer = threadIdx.x / kWarpgroupThreads - 1;
  const uint32_t first_row = (threadIdx.x - kWarpgroupThreads) / kWarpSize * 16;
  typename Ring<Traits>::Cursor keys, values;
  values.Advance(1);
  if (consumer == 1) Turns{consumer, false}.Pass();
  items.template ForEach<Traits::kPositions>(
      [&](const PrefillTile& tile, const TileRows& rows, uint32_t first, uint32_t end) {
        if (consumer * 64 < rows.num_rows()) {
          const Turns turns{consumer, rows.num_rows() <= 64};
          ConsumeItem<Traits>(ring, keys, values, turns, items.params, split, act, tile, rows,
                              first_row, first, end);
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
                       const KVS_GRID_CONSTANT PrefillTiles tiles, uint32_t tile_tokens, DType act,
                       const KVS_GRID_CONSTANT TensorMap map) {
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
    Produce(ring, items, map);
  } else {
    TakeRegisters<Traits::kConsumerRegisters>();
    Consume(ring, items, tiles.split, act);
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
  hopper::TensorMap map{};
  if constexpr (!Traits::kIsFp8) map = hopper::MapOfKv(params.kv);
  LaunchKernel(hopper::PagedPrefillKernel<Traits>, dim3(std::min(grid.num_blocks, processors)),
               dim3(Traits::kThreads), Traits::kSharedBytes, launch, params, tiles,
               grid.tile_tokens, launch.act, map);
}

}  // namespace kvs::gpu
