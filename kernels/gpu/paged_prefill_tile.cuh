// What the portable and the Hopper prefill kernel share: which rows and positions a tile has, its
// queries as fragments, the running softmax of fragment rows, and the way of K and V into shared
// memory.
//
// Fragments are those of mma.cuh: a warp has 16 rows, and a thread holds of rows g and g + 8
// (g = lane / 4) the columns 8 * n + 2 * (lane % 4) and the one after, for every n.
#pragma once

#include "gpu/fast_math.cuh"
#include "gpu/kv_read.cuh"
#include "gpu/mma.cuh"
#include "gpu/paged_prefill.h"

namespace kvs::gpu {

// Rows of a tile: row r is new token r / group of the tile and query head r % group of the KV head.
struct TileRows {
  uint32_t seq;
  uint32_t kv_head;
  uint32_t group;     // query heads per KV head
  uint32_t token;     // of row 0, among the step's tokens
  uint32_t position;  // of row 0, in its sequence
  uint32_t num_tokens;
  uint32_t window;

  KVS_DEVICE TileRows(const PagedAttentionParams& params, PrefillTile tile, uint32_t head,
                      uint32_t tile_tokens)
      : seq(tile.seq),
        kv_head(head),
        group(params.num_heads / params.kv.layout.num_kv_heads),
        window(params.window) {
    const uint32_t begin = params.query_start_loc[seq];
    const uint32_t new_tokens = params.query_start_loc[seq + 1] - begin;
    const uint32_t left = new_tokens - tile.first_token;
    token = begin + tile.first_token;
    position = params.seq_lens[seq] - left;
    num_tokens = left < tile_tokens ? left : tile_tokens;
  }

  KVS_DEVICE uint32_t num_rows() const { return num_tokens * group; }

  // Positions that the query at `at` sees: [SeenBegin, SeenEnd).
  KVS_DEVICE uint32_t SeenBegin(uint32_t at) const {
    return window == 0 || at + 1 <= window ? 0 : at + 1 - window;
  }
  KVS_DEVICE static uint32_t SeenEnd(uint32_t at) { return at + 1; }

  // Positions that some row sees, and those that all rows see.
  KVS_DEVICE uint32_t SomeBegin() const { return SeenBegin(position); }
  KVS_DEVICE uint32_t SomeEnd() const { return SeenEnd(position + num_tokens - 1); }
  KVS_DEVICE uint32_t AllBegin() const { return SeenBegin(position + num_tokens - 1); }
  KVS_DEVICE uint32_t AllEnd() const { return SeenEnd(position); }

  KVS_DEVICE uint32_t QueryHead(uint32_t row) const { return kv_head * group + row % group; }
};

// Which positions a tile's block walks, of those from `begin` on (or to `end`) that its rows see.
KVS_DEVICE uint32_t FirstPosition(const PrefillTile& tile, uint32_t begin) {
  return begin > tile.first_position ? begin : tile.first_position;
}
KVS_DEVICE uint32_t EndPosition(const PrefillTile& tile, uint32_t end) {
  return end < tile.end_position ? end : tile.end_position;
}

// The partial results of one part and KV head.
struct PartialRows {
  float* out;     // [rows of a tile][kHeadDim]
  float2* state;  // [rows of a tile]
};

template <uint32_t kHeadDim>
KVS_DEVICE PartialRows PartialRowsOf(const PrefillSplit& split, uint32_t part, uint32_t kv_head,
                                     uint32_t num_kv_heads, uint32_t tile_rows) {
  const size_t row = (size_t{part} * num_kv_heads + kv_head) * tile_rows;
  return {split.out + row * kHeadDim, split.state + row};
}

// Among the four threads of a row: values[i] of thread t becomes values[t] of thread i. So a thread
// that holds a pair of columns of each of four blocks comes to hold one block whole, and back.
KVS_DEVICE void TransposeAmongFour(uint32_t (&values)[4]) {
#pragma unroll
  for (uint32_t bit = 1; bit < 4; bit *= 2) {
    const bool upper = threadIdx.x & bit;
#pragma unroll
    for (uint32_t low = 0; low < 4; ++low) {
      if (low & bit) continue;
      const uint32_t got = ShuffleXor(upper ? values[low] : values[low + bit], bit);
      values[low] = upper ? got : values[low];
      values[low + bit] = upper ? values[low + bit] : got;
    }
  }
}

// The queries of a warp's 16 rows, the first of which is `first_row`, as A fragments of 16
// dimensions each. Rows past the tile's end are zero.
template <class Act, class Compute, uint32_t kHeadDim>
KVS_DEVICE void LoadQueriesAs(uint32_t (&fragments)[kHeadDim / 16][4],
                              const PagedAttentionParams& params, const TileRows& rows,
                              uint32_t first_row) {
  const uint32_t lane = threadIdx.x % kWarpSize;
  const size_t row_pieces =
      size_t{params.num_heads + 2 * params.kv.layout.num_kv_heads} * kHeadDim / 8;
#pragma unroll
  for (uint32_t half = 0; half < 2; ++half) {
    const uint32_t row = first_row + lane / 4 + 8 * half;
    const bool exists = row < rows.num_rows();
    const auto* query = static_cast<const uint4*>(params.qkv) +
                        (rows.token + row / rows.group) * row_pieces +
                        rows.QueryHead(row) * (kHeadDim / 8) + lane % 4;
#pragma unroll
    for (uint32_t n = 0; n < kHeadDim / 8; n += 4) {
      const uint4 piece = exists ? query[n] : uint4{0, 0, 0, 0};
      uint32_t pairs[4] = {piece.x, piece.y, piece.z, piece.w};
      TransposeAmongFour(pairs);
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) {
        fragments[(n + i) / 2][half + i % 2 * 2] = ConvertPair<Act, Compute>(pairs[i]);
      }
    }
  }
}

template <class Compute, uint32_t kHeadDim>
KVS_DEVICE void LoadQueries(uint32_t (&fragments)[kHeadDim / 16][4], DType act,
                            const PagedAttentionParams& params, const TileRows& rows,
                            uint32_t first_row) {
  if (act == DType::kF16) {
    LoadQueriesAs<F16, Compute, kHeadDim>(fragments, params, rows, first_row);
  } else {
    LoadQueriesAs<Bf16, Compute, kHeadDim>(fragments, params, rows, first_row);
  }
}

// The running softmax of a thread's two rows over the columns that it holds; the four threads of a
// row agree on its maximum.
struct RowSoftmax {
  float max[2] = {-INFINITY, -INFINITY};  // of score * scale
  float sum[2] = {0, 0};                  // over this thread's columns

  // Turns scores into 2^(score * scale - max). What was accumulated before the call is to be
  // multiplied by `correction`. Scores of -infinity alone change nothing, not by a bit.
  template <uint32_t kBlocks>
  KVS_DEVICE void Update(float (&scores)[kBlocks][4], float scale, float (&correction)[2]) {
#pragma unroll
    for (uint32_t row = 0; row < 2; ++row) {
      float largest = fmaxf(scores[0][2 * row], scores[0][2 * row + 1]);
#pragma unroll
      for (uint32_t n = 1; n < kBlocks; ++n) {
        largest = fmaxf(largest, fmaxf(scores[n][2 * row], scores[n][2 * row + 1]));
      }
      largest = fmaxf(largest, ShuffleXor(largest, 1));
      largest = fmaxf(largest, ShuffleXor(largest, 2));
      const float before = max[row];
      max[row] = fmaxf(before, __fmul_rn(largest, scale));
      // A row that has seen nothing yet must not subtract -infinity from itself.
      const float offset = max[row] == -INFINITY ? 0.0f : max[row];
      correction[row] = Exp2(before - offset);
      float added = 0;
#pragma unroll
      for (uint32_t n = 0; n < kBlocks; ++n) {
#pragma unroll
        for (uint32_t i = 2 * row; i < 2 * row + 2; ++i) {
          scores[n][i] = Exp2(__fmaf_rn(scores[n][i], scale, -offset));
          added += scores[n][i];
        }
      }
      sum[row] = __fmaf_rn(sum[row], correction[row], added);
    }
  }

  // The sum over the whole row.
  KVS_DEVICE float Total(uint32_t row) const {
    float total = sum[row];
    total += ShuffleXor(total, 1);
    total += ShuffleXor(total, 2);
    return total;
  }
};

// What a thread's two rows see, and how scores outside of it are removed.
struct RowLimits {
  uint32_t begin[2];
  uint32_t end[2];

  // Rows past the tile's end see nothing.
  KVS_DEVICE RowLimits(const TileRows& rows, uint32_t first_row) {
#pragma unroll
    for (uint32_t half = 0; half < 2; ++half) {
      const uint32_t row = first_row + threadIdx.x % kWarpSize / 4 + 8 * half;
      const uint32_t at = rows.position + row / rows.group;
      const bool exists = row < rows.num_rows();
      begin[half] = exists ? rows.SeenBegin(at) : 0;
      end[half] = exists ? TileRows::SeenEnd(at) : 0;
    }
  }

  // `first` is the position of column 0.
  template <uint32_t kBlocks>
  KVS_DEVICE void Apply(float (&scores)[kBlocks][4], uint32_t first) const {
    const uint32_t column = first + threadIdx.x % 4 * 2;
#pragma unroll
    for (uint32_t n = 0; n < kBlocks; ++n) {
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) {
        const uint32_t at = column + 8 * n + i % 2;
        if (at < begin[i / 2] || at >= end[i / 2]) scores[n][i] = -INFINITY;
      }
    }
  }
};

// Writes a warp's rows: accumulated / sum * v_scale.
template <class Act, uint32_t kHeadDim>
KVS_DEVICE void StoreRowsAs(const float (&accumulated)[kHeadDim / 8][4], const RowSoftmax& softmax,
                            float v_scale, const PagedAttentionParams& params, const TileRows& rows,
                            uint32_t first_row) {
  const uint32_t lane = threadIdx.x % kWarpSize;
#pragma unroll
  for (uint32_t half = 0; half < 2; ++half) {
    const float scale = v_scale / softmax.Total(half);
    const uint32_t row = first_row + lane / 4 + 8 * half;
    auto* out = static_cast<uint4*>(params.out) +
                (size_t{rows.token + row / rows.group} * params.num_heads + rows.QueryHead(row)) *
                    (kHeadDim / 8) +
                lane % 4;
#pragma unroll
    for (uint32_t n = 0; n < kHeadDim / 8; n += 4) {
      uint32_t pairs[4];
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) {
        pairs[i] = Pack2<Act>(accumulated[n + i][2 * half] * scale,
                              accumulated[n + i][2 * half + 1] * scale);
      }
      TransposeAmongFour(pairs);
      if (row < rows.num_rows()) out[n] = {pairs[0], pairs[1], pairs[2], pairs[3]};
    }
  }
}

template <uint32_t kHeadDim>
KVS_DEVICE void StoreRows(const float (&accumulated)[kHeadDim / 8][4], const RowSoftmax& softmax,
                          float v_scale, DType act, const PagedAttentionParams& params,
                          const TileRows& rows, uint32_t first_row) {
  if (act == DType::kF16) {
    StoreRowsAs<F16, kHeadDim>(accumulated, softmax, v_scale, params, rows, first_row);
  } else {
    StoreRowsAs<Bf16, kHeadDim>(accumulated, softmax, v_scale, params, rows, first_row);
  }
}

// Writes a warp's rows as they are, with their states, for a merge.
template <uint32_t kHeadDim>
KVS_DEVICE void StorePartialRows(const float (&accumulated)[kHeadDim / 8][4],
                                 const RowSoftmax& softmax, const TileRows& rows,
                                 uint32_t first_row, const PartialRows& part) {
  const uint32_t lane = threadIdx.x % kWarpSize;
#pragma unroll
  for (uint32_t half = 0; half < 2; ++half) {
    const float total = softmax.Total(half);
    const uint32_t row = first_row + lane / 4 + 8 * half;
    if (row >= rows.num_rows()) continue;
    if (lane % 4 == 0) part.state[row] = make_float2(softmax.max[half], total);
    float* out = part.out + row * kHeadDim + lane % 4 * 2;
#pragma unroll
    for (uint32_t n = 0; n < kHeadDim / 8; ++n) {
      *reinterpret_cast<float2*>(out + 8 * n) =
          make_float2(accumulated[n][2 * half], accumulated[n][2 * half + 1]);
    }
  }
}

}  // namespace kvs::gpu
