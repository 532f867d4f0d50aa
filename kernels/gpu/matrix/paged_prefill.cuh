// Prefill attention by the products of matrix.cuh, after FlashAttention-2 (Dao 2023) with keys as
// the left operand: a wave has 16 query rows as the columns of its products, and the waves of a
// block share keys and values.
#pragma once

#include "gpu/matrix/plane.cuh"
#include "gpu/matrix/softmax.cuh"
#include "gpu/paged_prefill_instances.h"
#include "gpu/paged_prefill_tile.cuh"

namespace kvs::gpu {

template <KvCacheDType dtype_, uint32_t kHeadDim_>
struct MatrixPrefill {
  static constexpr KvCacheDType dtype = dtype_;
  using Read = KvRead<dtype>;
  using Compute = typename Read::Compute;
  static constexpr uint32_t kHeadDim = kHeadDim_;
  static constexpr uint32_t kWaves = kPortablePrefillRows / 16;
  // From 128 dimensions on, queries do not fit into registers beside the sums.
  static constexpr bool kQueriesInShared = kHeadDim >= 128;
  // At 256, nor may operands be read much ahead of their products.
  static constexpr bool kKeepOrder = kHeadDim == 256;
  static constexpr uint32_t kPositions = kHeadDim == 256 ? 16 : 32;
  static constexpr uint32_t kRowTiles = kPositions / 16;
  static constexpr uint32_t kDimTiles = kHeadDim / 16;
  static constexpr uint32_t kRowTileBytes = kDimTiles * kTileBytes;
  static constexpr uint32_t kPlaneBytes = kRowTiles * kRowTileBytes;
  static constexpr uint32_t kQueryBytes = kQueriesInShared ? kWaves * kDimTiles * kTileBytes : 0;
  static constexpr uint32_t kSharedBytes = 2 * kPlaneBytes + kQueryBytes;
};

// What the query of this lane's column sees, and where its output goes.
struct PrefillColumn {
  uint32_t row;
  bool exists;
  uint32_t begin = 0, end = 0;

  KVS_DEVICE PrefillColumn(const TileRows& rows, uint32_t lane)
      : row(WaveIndex() * 16 + lane % 16), exists(row < rows.num_rows()) {
    if (!exists) return;
    const uint32_t at = rows.position + row / rows.group;
    begin = rows.SeenBegin(at);
    end = TileRows::SeenEnd(at);
  }
};

template <class Act, class Traits>
KVS_DEVICE void StoreColumn(const ColumnState<Traits::kHeadDim>& state, float factor, void* row,
                            bool exists) {
#pragma unroll
  for (uint32_t d = 0; d < Traits::kDimTiles; ++d) {
    const SumValues values = state.out[d].values * factor;
    StoreOperandToRow(OperandFromSum<Act>(values), static_cast<Act*>(row) + d * 16, exists,
                      WaveLane());
  }
}

// The block's share of keys and values, on its way through registers to shared memory.
template <class Traits>
struct PrefillStage {
  using Copy = PlaneCopy<Traits::dtype, Traits::kHeadDim, Traits::kWaves * kWave>;

  Copy keys[Traits::kRowTiles];
  Copy values[Traits::kRowTiles];

  // Rows past the last position, end - 1, are read from where it is.
  KVS_DEVICE void Load(const PagedAttentionParams& params, const TileRows& rows, uint32_t first,
                       uint32_t end, uint32_t thread) {
    const PlaneSource<Traits::dtype> source{params};
    const uint32_t last = (end - 1) / 16 * 16;
#pragma unroll
    for (uint32_t r = 0; r < Traits::kRowTiles; ++r) {
      const uint32_t row = first + 16 * r < last ? first + 16 * r : last;
      keys[r].LoadKeys(source.Rows(rows.seq, rows.kv_head, row, false), thread);
      values[r].LoadValues(source.Rows(rows.seq, rows.kv_head, row, true), thread);
    }
  }
  // `first` as when it was loaded.
  KVS_DEVICE void Store(uint8_t* shared, uint32_t first, uint32_t end, uint32_t thread) const {
#pragma unroll
    for (uint32_t r = 0; r < Traits::kRowTiles; ++r) {
      const uint32_t row = first + 16 * r;
      uint8_t* to = shared + r * Traits::kRowTileBytes;
      keys[r].StoreKeys(to, thread);
      values[r].StoreValues(to + Traits::kPlaneBytes, row < end ? end - row : 0, thread);
    }
  }
};

// Takes the staged positions, of which `first` is the first, into the column's state.
template <class Traits, class Queries>
KVS_DEVICE void AttendStage(ColumnState<Traits::kHeadDim>& state, const Queries& queries,
                            const PrefillColumn& column, const uint8_t* shared, float scale,
                            uint32_t first, uint32_t lane) {
  using Copy = typename PrefillStage<Traits>::Copy;
  using Compute = typename Traits::Compute;
  const uint8_t* values = shared + Traits::kPlaneBytes;
  MatrixSum scores[Traits::kRowTiles];
#pragma unroll
  for (uint32_t d = 0; d < Traits::kDimTiles; ++d) {
    const MatrixOperand query = queries.At(d, lane);
#pragma unroll
    for (uint32_t r = 0; r < Traits::kRowTiles; ++r) {
      Multiply<Compute>(scores[r].values,
                        Copy::KeyOperand(shared + r * Traits::kRowTileBytes, d, lane), query);
    }
    if (Traits::kKeepOrder && d % 4 == 3) KeepOrder();
  }
#pragma unroll
  for (uint32_t r = 0; r < Traits::kRowTiles; ++r) {
    ScaleAndMask(scores[r], scale, first + 16 * r, column.begin, column.end);
  }
  state.Update(scores);
#pragma unroll
  for (uint32_t r = 0; r < Traits::kRowTiles; ++r) {
    const MatrixOperand weights = OperandFromSum<Compute>(scores[r].values);
#pragma unroll
    for (uint32_t d = 0; d < Traits::kDimTiles; ++d) {
      Multiply<Compute>(state.out[d].values,
                        Copy::ValueOperand(values + r * Traits::kRowTileBytes, d, lane), weights);
      if (Traits::kKeepOrder && d % 4 == 3) KeepOrder();
    }
  }
}

// Writes a row as it is, with its state, for a merge.
template <class Traits>
KVS_DEVICE void StorePartialColumn(const ColumnState<Traits::kHeadDim>& state,
                                   const PrefillColumn& column, const PartialRows& part) {
  const float total = state.Total();
  if (!column.exists) return;
  if (WaveLane() < 16) part.state[column.row] = float2{state.max, total};
#pragma unroll
  for (uint32_t d = 0; d < Traits::kDimTiles; ++d) {
#pragma unroll
    for (uint32_t i = 0; i < kSumValues; ++i) {
      part.out[column.row * Traits::kHeadDim + d * 16 + SumRow(WaveLane(), i)] =
          state.out[d].values[i];
    }
  }
}

// Writes the tile's rows, or what a merge makes them from.
template <class Traits>
KVS_DEVICE void StoreTile(const PagedAttentionParams& params, const PrefillSplit& split,
                          const PrefillTile& tile, const TileRows& rows, DType act,
                          const ColumnState<Traits::kHeadDim>& state) {
  // Found anew: kept since the queries were read, it would take registers that the sums need.
  const PrefillColumn column(rows, Opaque(WaveLane()));
  if (tile.part != PrefillTile::kWhole) {
    StorePartialColumn<Traits>(
        state, column,
        PartialRowsOf<Traits::kHeadDim>(split, tile.part, rows.kv_head,
                                        params.kv.layout.num_kv_heads, kPortablePrefillRows));
    return;
  }
  const float factor = params.kv.v_scale[rows.kv_head] * Traits::Read::kRescale / state.Total();
  const size_t row =
      size_t{rows.token + column.row / rows.group} * params.num_heads + rows.QueryHead(column.row);
  void* out = static_cast<uint16_t*>(params.out) + row * Traits::kHeadDim;
  if (act == DType::kF16) {
    StoreColumn<F16, Traits>(state, factor, out, column.exists);
  } else {
    StoreColumn<Bf16, Traits>(state, factor, out, column.exists);
  }
}

template <class Traits>
KVS_DEVICE void PrefillRows(const PagedAttentionParams& params, const PrefillSplit& split,
                            const PrefillTile& tile, const TileRows& rows, DType act,
                            uint8_t* shared) {
  const uint32_t end = EndPosition(tile, rows.SomeEnd());
  uint32_t first = FirstPosition(tile, rows.SomeBegin() / Traits::kPositions * Traits::kPositions);
  PrefillStage<Traits> stage;
  stage.Load(params, rows, first, end, threadIdx.x);

  const PrefillColumn column(rows, WaveLane());
  const size_t query = size_t{rows.token + column.row / rows.group} *
                           (params.num_heads + 2 * params.kv.layout.num_kv_heads) +
                       rows.QueryHead(column.row);
  QueryOperands<typename Traits::Compute, Traits::kHeadDim, Traits::kQueriesInShared> queries(
      shared + 2 * Traits::kPlaneBytes + WaveIndex() * (Traits::kDimTiles * kTileBytes));
  queries.Load(static_cast<const uint16_t*>(params.qkv) + query * Traits::kHeadDim, act,
               column.exists, true);
  const float scale =
      params.sm_scale * params.kv.k_scale[rows.kv_head] * Traits::Read::kRescale * 1.44269504f;
  ColumnState<Traits::kHeadDim> state;
  for (; first < end; first += Traits::kPositions) {
    const uint32_t thread = Opaque(threadIdx.x);
    __syncthreads();  // All have read the stage before.
    stage.Store(shared, first, end, thread);
    if (first + Traits::kPositions < end) {
      stage.Load(params, rows, first + Traits::kPositions, end, thread);
    }
    __syncthreads();
    AttendStage<Traits>(state, queries, column, shared, scale, first, thread % kWave);
  }
  StoreTile<Traits>(params, split, tile, rows, act, state);
}

template <class Traits>
__global__ void __launch_bounds__(Traits::kWaves* kWave)
    MatrixPrefillKernel(const PagedAttentionParams params, const PrefillTiles tiles,
                        uint32_t tile_tokens, DType act) {
  KVS_DYNAMIC_SHARED(uint8_t, matrix_prefill_shared, 128);
  const uint32_t num_kv_heads = params.kv.layout.num_kv_heads;
  if (blockIdx.x / num_kv_heads >= *tiles.count) return;
  const PrefillTile tile = tiles.tiles[blockIdx.x / num_kv_heads];
  const TileRows rows(params, tile, blockIdx.x % num_kv_heads, tile_tokens);
  PrefillRows<Traits>(params, tiles.split, tile, rows, act, matrix_prefill_shared);
}

template <KvCacheDType dtype, uint32_t kHeadDim>
void RunMatrixPrefill(const PagedAttentionParams& params, const PrefillTiles& tiles,
                      const PrefillGrid& grid, const Launch& launch) {
  using Traits = MatrixPrefill<dtype, kHeadDim>;
  static const bool allowed = [] {
    AllowShared(MatrixPrefillKernel<Traits>, Traits::kSharedBytes);
    return true;
  }();
  static_cast<void>(allowed);
  const auto wave = static_cast<uint32_t>(launch.facts->wave_size);
  LaunchKernel(MatrixPrefillKernel<Traits>, dim3(grid.num_blocks), dim3(Traits::kWaves * wave),
               Traits::kSharedBytes, launch, params, tiles, grid.tile_tokens, launch.act);
}

}  // namespace kvs::gpu
