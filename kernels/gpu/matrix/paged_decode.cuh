// Decode attention by the products of matrix.cuh, on the plan of paged_decode.h. A wave takes its
// share of a tile's positions, 16 at a time, and works alone until its piece ends: keys times
// queries, softmax, values times weights. The query heads of a KV head are the columns, up to 16.
#pragma once

#include "gpu/matrix/plane.cuh"
#include "gpu/matrix/softmax.cuh"
#include "gpu/paged_decode_merge.cuh"

namespace kvs::gpu {

// Waves of a block. At 256 dimensions, four waves' states do not fit into shared memory.
constexpr uint32_t MatrixDecodeWaves(uint32_t head_dim) { return head_dim == 256 ? 2 : 4; }

// Tokens that a block takes at a time.
constexpr uint32_t MatrixDecodeTokens(KvCacheDType dtype, uint32_t head_dim) {
  return head_dim * SizeOf(dtype) <= 128 ? 128 : 64;
}

template <KvCacheDType dtype_, uint32_t kHeadDim_>
struct MatrixDecode {
  static constexpr KvCacheDType dtype = dtype_;
  using Read = KvRead<dtype>;
  using Compute = typename Read::Compute;
  static constexpr uint32_t kHeadDim = kHeadDim_;
  static constexpr uint32_t kDimTiles = kHeadDim / 16;
  // From 128 dimensions on, queries do not fit into registers beside the sums.
  static constexpr bool kQueriesInShared = kHeadDim >= 128;
  static constexpr uint32_t kWarps = MatrixDecodeWaves(kHeadDim);
  static constexpr uint32_t kTileTokens = MatrixDecodeTokens(dtype, kHeadDim);
  static constexpr uint32_t kTokens = kTileTokens / kWarps;  // of one wave and tile
  static constexpr uint32_t kPlaneBytes = kDimTiles * kTileBytes;
  static constexpr uint32_t kQueryBytes = kQueriesInShared ? kDimTiles * kTileBytes : 0;
  static constexpr uint32_t kHeadStride = kHeadDim;  // of DecodeMergeSpace
  static constexpr uint32_t kJoinQuads =
      kHeadDim <= 128 ? 1 : kHeadDim / 128;  // few registers are left
  static constexpr uint32_t kJoinParts = 1;
  static_assert(kTokens % 16 == 0);
};

// Planes and queries, or the waves' states: never both.
template <class Traits>
constexpr uint32_t MatrixDecodeSharedBytes(uint32_t group) {
  const uint32_t planes = Traits::kWarps * Traits::kPlaneBytes + Traits::kQueryBytes;
  const uint32_t states = Traits::kWarps * group * (Traits::kHeadDim + 2) * 4;
  return planes > states ? planes : states;
}

// Walks over the wave's positions, 16 at a time, tile after tile of the piece.
template <class Traits>
struct DecodeRows {
  DecodeCursor at;
  uint32_t in_tile = 0;  // positions of the wave's share before these

  KVS_DEVICE explicit DecodeRows(const DecodePiece& piece) : at(piece) {}
  KVS_DEVICE uint32_t First() const {
    return at.tile * Traits::kTileTokens + WaveIndex() * Traits::kTokens + in_tile;
  }
  KVS_DEVICE bool IsEnd() const { return at.left == 0; }
  KVS_DEVICE bool AtTileEnd() const { return in_tile + 16 == Traits::kTokens; }
  KVS_DEVICE bool AtPairEnd() const { return AtTileEnd() && at.AtPairEnd(); }
  // True when the next positions belong to another pair.
  KVS_DEVICE bool Advance(const DecodePlan& plan, uint32_t num_kv_heads) {
    in_tile = AtTileEnd() ? 0 : in_tile + 16;
    return in_tile == 0 && at.Advance(plan, num_kv_heads);
  }
};

// Starts to load the wave's rows; past the end of the piece nothing.
template <bool kValues, class Copy, class Traits>
KVS_DEVICE void LoadRows(Copy& copy, const PagedAttentionParams& params,
                         const DecodeRows<Traits>& rows, uint32_t lane) {
  if (rows.IsEnd()) return;
  // A share without any position reads the rows of the sequence's last one.
  const uint32_t last = (rows.at.info.seq_len - 1) / 16 * 16;
  const uint32_t first = rows.First() < last ? rows.First() : last;
  const PlaneSource<Traits::dtype> source{params};
  const uint8_t* from = source.Rows(rows.at.seq, rows.at.kv_head, first, kValues);
  if constexpr (kValues) {
    copy.LoadValues(from, lane);
  } else {
    copy.LoadKeys(from, lane);
  }
}

// The queries of the pair, by the whole block.
template <class Traits, class Queries>
KVS_DEVICE void LoadPairQueries(Queries& queries, const PagedAttentionParams& params, DType act,
                                const DecodeCursor& at, uint32_t group) {
  const size_t rows = params.num_heads + 2 * params.kv.layout.num_kv_heads;
  const size_t row = at.info.query_row * rows + size_t{at.kv_head} * group + MatrixRow();
  queries.Load(static_cast<const uint16_t*>(params.qkv) + row * Traits::kHeadDim, act,
               MatrixRow() < group, threadIdx.x < kWave);
  if constexpr (Traits::kQueriesInShared) __syncthreads();
}

template <class Traits>
KVS_DEVICE void PublishColumns(const ColumnState<Traits::kHeadDim>& state,
                               DecodeMergeSpace<Traits> space, uint32_t group) {
  const float sum = state.Total();
  const uint32_t head = MatrixRow();
  if (head >= group) return;
  const uint32_t slot = WaveIndex() * group + head;
  if (WaveLane() < 16) space.state[slot] = float2{state.max, sum};
#pragma unroll
  for (uint32_t d = 0; d < Traits::kDimTiles; ++d) {
#pragma unroll
    for (uint32_t i = 0; i < kSumValues; ++i) {
      space.out[slot * Traits::kHeadDim + d * 16 + SumRow(WaveLane(), i)] = state.out[d].values[i];
    }
  }
}

template <class Traits>
KVS_DEVICE void EndColumns(const PagedAttentionParams& params, const DecodePlan& plan, DType act,
                           const DecodeCursor& at, const ColumnState<Traits::kHeadDim>& state,
                           uint8_t* shared) {
  const uint32_t num_kv_heads = params.kv.layout.num_kv_heads;
  const uint32_t group = params.num_heads / num_kv_heads;
  const DecodeMergeSpace<Traits> space(shared, Traits::kWarps, group);
  __syncthreads();  // All have read what the states replace.
  PublishColumns<Traits>(state, space, group);
  __syncthreads();
  // Read again: registers are few.
  const DecodePairSpan span(at, plan.pieces[blockIdx.x].index, plan.seqs[at.seq].tiles_before,
                            num_kv_heads, plan.cut->piece_tiles);
  const size_t row = size_t{at.info.query_row} * params.num_heads + size_t{at.kv_head} * group;
  uint16_t* out = static_cast<uint16_t*>(params.out) + row * Traits::kHeadDim;
  const float factor = params.kv.v_scale[at.kv_head] * Traits::Read::kRescale;
  if (act == DType::kF16) {
    FinishPair(space, Traits::kWarps, Traits::kWarps, plan, span, group, factor,
               reinterpret_cast<F16*>(out));
  } else {
    FinishPair(space, Traits::kWarps, Traits::kWarps, plan, span, group, factor,
               reinterpret_cast<Bf16*>(out));
  }
  __syncthreads();
}

template <class Traits>
__global__ void __launch_bounds__(Traits::kWarps* kWave)
    MatrixDecodeKernel(const PagedAttentionParams params, const DecodePlan plan, DType act) {
  KVS_DYNAMIC_SHARED(uint8_t, matrix_decode_shared, 128);
  using Copy = PlaneCopy<Traits::dtype, Traits::kHeadDim, kWave>;
  using Compute = typename Traits::Compute;
  const uint32_t num_kv_heads = params.kv.layout.num_kv_heads;
  const uint32_t group = params.num_heads / num_kv_heads;
  uint8_t* plane = matrix_decode_shared + WaveIndex() * Traits::kPlaneBytes;
  DecodeRows<Traits> rows(plan.pieces[blockIdx.x]);
  if (rows.IsEnd()) return;
  QueryOperands<Compute, Traits::kHeadDim, Traits::kQueriesInShared> queries(
      matrix_decode_shared + Traits::kWarps * Traits::kPlaneBytes);
  ColumnState<Traits::kHeadDim> state;
  Copy copy;
  LoadRows<false>(copy, params, rows, WaveLane());
  float scale = 0.0f;
  bool new_pair = true;
  while (true) {
    const uint32_t lane = Opaque(WaveLane());
    if (new_pair) {
      LoadPairQueries<Traits>(queries, params, act, rows.at, group);
      scale = params.sm_scale * params.kv.k_scale[rows.at.kv_head] * Traits::Read::kRescale *
              1.44269504f;
      state.Clear();
    }
    copy.StoreKeys(plane, lane);
    SyncWave();
    LoadRows<true>(copy, params, rows, lane);
    const uint32_t seq_len = rows.at.info.seq_len;
    const uint32_t begin =
        params.window == 0 || seq_len <= params.window ? 0 : seq_len - params.window;
    MatrixSum scores[1];
#pragma unroll
    for (uint32_t d = 0; d < Traits::kDimTiles; ++d) {
      Multiply<Compute>(scores[0].values, Copy::KeyOperand(plane, d, lane), queries.At(d, lane));
    }
    ScaleAndMask(scores[0], scale, rows.First(), begin, seq_len);
    state.Update(scores);
    const MatrixOperand weights = OperandFromSum<Compute>(scores[0].values);
    SyncWave();
    copy.StoreValues(plane, rows.First() < seq_len ? seq_len - rows.First() : 0, lane);
    SyncWave();

    DecodeRows<Traits> next = rows;
    const bool pair_ends = rows.AtPairEnd();
    new_pair = next.Advance(plan, num_kv_heads);
    LoadRows<false>(copy, params, next, lane);
#pragma unroll
    for (uint32_t d = 0; d < Traits::kDimTiles; ++d) {
      Multiply<Compute>(state.out[d].values, Copy::ValueOperand(plane, d, lane), weights);
    }
    SyncWave();
    if (pair_ends) EndColumns<Traits>(params, plan, act, rows.at, state, matrix_decode_shared);
    if (next.IsEnd()) return;
    rows = next;
  }
}

template <KvCacheDType dtype, uint32_t kHeadDim>
void RunMatrixDecode(const PagedAttentionParams& params, const DecodePlan& plan,
                     const Launch& launch) {
  using Traits = MatrixDecode<dtype, kHeadDim>;
  const uint32_t group = params.num_heads / params.kv.layout.num_kv_heads;
  static const bool allowed = [] {
    AllowShared(MatrixDecodeKernel<Traits>, MatrixDecodeSharedBytes<Traits>(kDecodeMaxGroup));
    return true;
  }();
  static_cast<void>(allowed);
  const auto wave = static_cast<uint32_t>(launch.facts->wave_size);
  LaunchKernel(MatrixDecodeKernel<Traits>, dim3(plan.shape.num_ctas), dim3(Traits::kWarps * wave),
               MatrixDecodeSharedBytes<Traits>(group), launch, params, plan, launch.act);
}

}  // namespace kvs::gpu
