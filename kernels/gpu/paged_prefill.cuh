// The portable prefill kernel, after FlashAttention-2 (Dao 2023): a warp owns 16 rows of a tile and
// all keys, so that warps share K and V through shared memory and nothing else.
#pragma once

#include "gpu/paged_prefill_copy.cuh"
#include "gpu/paged_prefill_instances.h"
#include "gpu/paged_prefill_tile.cuh"

namespace kvs::gpu {

template <KvCacheDType dtype, uint32_t kHeadDim_>
struct PortablePrefill {
  using Read = KvRead<dtype>;
  using Compute = typename Read::Compute;
  static constexpr uint32_t kHeadDim = kHeadDim_;
  static constexpr uint32_t kWarps = kPortablePrefillRows / 16;
  static constexpr uint32_t kThreads = kWarps * kWarpSize;
  // At 256 dimensions, queries and accumulators leave registers for half a tile of scores.
  static constexpr uint32_t kPositions = kHeadDim == 256 ? 32 : 64;
  static constexpr uint32_t kBlocks = kPositions / 8;  // of 8 columns of scores
  using Copy = KvTileCopy<dtype, kHeadDim, kPositions, kThreads>;
  static constexpr uint32_t kSharedBytes = 2 * (Copy::kTileBytes + Copy::kRawBytes);
};

// scores[16 rows][positions] = queries * keys^T.
template <class Traits>
KVS_DEVICE void MultiplyKeys(float (&scores)[Traits::kBlocks][4],
                             const uint32_t (&queries)[Traits::kHeadDim / 16][4],
                             const uint8_t* keys) {
  const uint32_t lane = threadIdx.x % kWarpSize;
#pragma unroll
  for (uint32_t n = 0; n < Traits::kBlocks; n += 2) {
    const uint32_t row = 8 * n + lane / 16 * 8 + lane % 8;
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) scores[n][i] = scores[n + 1][i] = 0;
#pragma unroll
    for (uint32_t k = 0; k < Traits::kHeadDim / 16; ++k) {
      uint32_t b[4];
      LoadMatrices(b, keys + TileOffset<Traits::kPositions>(row, 2 * k + lane / 8 % 2));
      Mma16x8x16<typename Traits::Compute>(scores[n], queries[k], b[0], b[1]);
      Mma16x8x16<typename Traits::Compute>(scores[n + 1], queries[k], b[2], b[3]);
    }
  }
}

// accumulated = accumulated * correction + probabilities * values.
template <class Traits>
KVS_DEVICE void AddValues(float (&accumulated)[Traits::kHeadDim / 8][4],
                          const float (&correction)[2],
                          const float (&probabilities)[Traits::kBlocks][4], const uint8_t* values) {
  using Compute = typename Traits::Compute;
  const uint32_t lane = threadIdx.x % kWarpSize;
#pragma unroll
  for (uint32_t n = 0; n < Traits::kHeadDim / 8; ++n) {
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) accumulated[n][i] *= correction[i / 2];
  }
#pragma unroll
  for (uint32_t k = 0; k < Traits::kPositions / 16; ++k) {
    uint32_t a[4];
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      const float* pair = &probabilities[2 * k + i / 2][i % 2 * 2];
      a[i] = Pack2<Compute>(pair[0], pair[1]);
    }
    const uint32_t row = 16 * k + lane % 16;
#pragma unroll
    for (uint32_t n = 0; n < Traits::kHeadDim / 8; n += 2) {
      uint32_t b[4];
      LoadMatricesTransposed(b, values + TileOffset<Traits::kPositions>(row, n + lane / 16));
      Mma16x8x16<Compute>(accumulated[n], a, b[0], b[1]);
      Mma16x8x16<Compute>(accumulated[n + 1], a, b[2], b[3]);
    }
  }
}

template <class Traits>
KVS_DEVICE void ComputeTile(const PagedAttentionParams& params, const PrefillSplit& split,
                            const PrefillTile& tile, const TileRows& rows, DType act,
                            uint8_t* shared) {
  using Copy = typename Traits::Copy;
  constexpr uint32_t kPositions = Traits::kPositions;
  uint8_t* keys = shared;
  uint8_t* values = keys + Copy::kTileBytes;
  uint8_t* raw_keys = Copy::kIsFp8 ? values + Copy::kTileBytes : keys;
  uint8_t* raw_values = Copy::kIsFp8 ? raw_keys + Copy::kRawBytes : values;

  const uint32_t first_row = threadIdx.x / kWarpSize * 16;
  const uint32_t end = EndPosition(tile, rows.SomeEnd());
  uint32_t first = FirstPosition(tile, rows.SomeBegin() / kPositions * kPositions);
  Copy copy(params, rows, threadIdx.x);
  copy.LookUp(first);
  copy.template Start<KvPlane::kKeys>(raw_keys, first);
  CommitAsyncCopies();

  uint32_t queries[Traits::kHeadDim / 16][4];
  LoadQueries<typename Traits::Compute, Traits::kHeadDim>(queries, act, params, rows, first_row);
  const RowLimits limits(rows, first_row);
  const float scale =
      params.sm_scale * params.kv.k_scale[rows.kv_head] * Traits::Read::kRescale * 1.44269504f;
  RowSoftmax softmax;
  float accumulated[Traits::kHeadDim / 8][4] = {};
  for (; first < end; first += kPositions) {
    WaitAsyncCopies<0>();
    if constexpr (Copy::kIsFp8) copy.Widen(raw_keys, keys);
    __syncthreads();  // The keys are there, and the values before have been read.
    copy.template Start<KvPlane::kValues>(raw_values, first);
    CommitAsyncCopies();

    float scores[Traits::kBlocks][4];
    MultiplyKeys<Traits>(scores, queries, keys);
    if (first < rows.AllBegin() || first + kPositions > rows.AllEnd()) limits.Apply(scores, first);
    float correction[2];
    softmax.Update(scores, scale, correction);

    WaitAsyncCopies<0>();
    if constexpr (Copy::kIsFp8) copy.Widen(raw_values, values);
    __syncthreads();  // The values are there, and the keys have been read.
    if (first + kPositions < end) {
      copy.LookUp(first + kPositions);
      copy.template Start<KvPlane::kKeys>(raw_keys, first + kPositions);
    }
    CommitAsyncCopies();
    AddValues<Traits>(accumulated, correction, scores, values);
  }
  if (tile.part != PrefillTile::kWhole) {
    StorePartialRows<Traits::kHeadDim>(
        accumulated, softmax, rows, first_row,
        PartialRowsOf<Traits::kHeadDim>(split, tile.part, rows.kv_head,
                                        params.kv.layout.num_kv_heads, kPortablePrefillRows));
    return;
  }
  const float v_scale = params.kv.v_scale[rows.kv_head] * Traits::Read::kRescale;
  StoreRows<Traits::kHeadDim>(accumulated, softmax, v_scale, act, params, rows, first_row);
}

template <class Traits>
__global__ void __launch_bounds__(Traits::kThreads)
    PagedPrefillKernel(const KVS_GRID_CONSTANT PagedAttentionParams params,
                       const KVS_GRID_CONSTANT PrefillTiles tiles, uint32_t tile_tokens,
                       DType act) {
  KVS_DYNAMIC_SHARED(uint8_t, prefill_shared, 1024);
  WaitForPreviousKernel();
  AllowNextKernel();
  const uint32_t num_kv_heads = params.kv.layout.num_kv_heads;
  if (blockIdx.x / num_kv_heads >= *tiles.count) return;
  const PrefillTile tile = tiles.tiles[blockIdx.x / num_kv_heads];
  const TileRows rows(params, tile, blockIdx.x % num_kv_heads, tile_tokens);
  ComputeTile<Traits>(params, tiles.split, tile, rows, act, prefill_shared);
}

template <KvCacheDType dtype, uint32_t kHeadDim>
void RunPortablePrefill(const PagedAttentionParams& params, const PrefillTiles& tiles,
                        const PrefillGrid& grid, const Launch& launch) {
  using Traits = PortablePrefill<dtype, kHeadDim>;
  static const bool allowed = [] {
    AllowShared(PagedPrefillKernel<Traits>, Traits::kSharedBytes);
    return true;
  }();
  static_cast<void>(allowed);
  LaunchKernel(PagedPrefillKernel<Traits>, dim3(grid.num_blocks), dim3(Traits::kThreads),
               Traits::kSharedBytes, launch, params, tiles, grid.tile_tokens, launch.act);
}

}  // namespace kvs::gpu
