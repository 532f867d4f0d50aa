// The decode attention kernel. See paged_decode.h for the plan it follows.
//
// One warp owns kTokens of the tokens of a tile and works alone until its piece ends: it keeps
// kStages tiles of K and V on their way to its own part of shared memory, multiplies K by the
// queries (S^T = K Q^T), keeps a running softmax, and multiplies V^T by P^T. The warps of a block
// meet only to merge their states at the end of each (sequence, KV head) pair.
#pragma once

#include "gpu/async_copy.cuh"
#include "gpu/kv_read.cuh"
#include "gpu/mma.cuh"
#include "gpu/paged_decode.h"

namespace kvs::gpu {

template <KvCacheDType dtype, uint32_t kHeadDim_, uint32_t kHeadTiles_>
struct DecodeTraits {
  using Read = KvRead<dtype>;
  using Compute = typename Read::Compute;
  static constexpr uint32_t kHeadDim = kHeadDim_;
  static constexpr uint32_t kHeadTiles = kHeadTiles_;  // of 8 query heads
  static constexpr uint32_t kHeads = 8 * kHeadTiles;
  static constexpr uint32_t kWarps = 4;
  static constexpr uint32_t kThreads = kWarps * kWarpSize;
  static constexpr uint32_t kTileTokens = DecodeTileTokens(dtype, kHeadDim);
  static constexpr uint32_t kTokens = kTileTokens / kWarps;  // of one warp and tile
  static constexpr uint32_t kRowTiles = kTokens / 16;        // of the matrix instruction
  static constexpr uint32_t kRowBytes = kHeadDim * SizeOf(dtype);
  static constexpr uint32_t kRowPieces = kRowBytes / 16;
  static constexpr uint32_t kPlaneBytes = kTokens * kRowBytes;
  static constexpr uint32_t kStageBytes = 2 * kPlaneBytes;
  // About 24 KiB of each warp in flight: with 8 warps on a multiprocessor that is several times
  // what the latency of device memory asks for.
  static constexpr uint32_t kStages = 24576 / kStageBytes < 2 ? 2 : 24576 / kStageBytes;
  static constexpr uint32_t kDimTiles = kHeadDim / 16;
  static constexpr bool kIsFp8 = SizeOf(dtype) == 1;
  static_assert(kRowTiles * 16 == kTokens);
};

// Bytes of dynamic shared memory: the warps' stages, then the larger of what the warps' states and
// what the states of all parts of a pair take (paged_decode_merge.cuh).
template <class Traits>
constexpr uint32_t DecodeSharedBytes(uint32_t group, uint32_t num_ctas) {
  const uint32_t warps = Traits::kWarps * group * (Traits::kHeadDim + 2) * 4;
  const uint32_t parts = num_ctas * group * 8;
  return Traits::kWarps * Traits::kStages * Traits::kStageBytes + (warps > parts ? warps : parts);
}

// Where a 16-byte piece of a row stands in shared memory: pieces of eight neighbouring rows lie in
// different banks, and so do four neighbouring pieces of an even row and of the next.
template <uint32_t kRowBytes>
KVS_DEVICE constexpr uint32_t SwizzledOffset(uint32_t row, uint32_t piece) {
  const uint32_t flip = kRowBytes == 64 ? (row >> 1) & 3 : ((row & 1) << 2) | ((row >> 1) & 3);
  return row * kRowBytes + ((piece ^ flip) * 16);
}

// Walks the tiles of a piece in order.
struct DecodeCursor {
  uint32_t seq;
  uint32_t kv_head;
  uint32_t tile;
  uint32_t left;  // tiles of the piece, this one included
  DecodeSeq info;

  KVS_DEVICE explicit DecodeCursor(const DecodePiece& piece)
      : seq(piece.seq),
        kv_head(piece.kv_head),
        tile(piece.tile),
        left(piece.num_tiles),
        info(piece.info) {}
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

// A warp's loads: block ids are fetched 32 at a time, one a lane, each for 16 tokens.
template <class Traits>
struct DecodeLoader {
  static constexpr uint32_t kIdTiles = kWarpSize / Traits::kRowTiles;  // that 32 ids serve

  const PagedAttentionParams& params;
  const DecodePlan& plan;
  DecodeCursor at;
  uint8_t* stages;
  uint32_t warp;
  uint32_t lane;
  uint32_t ids_tile = 0;  // the tile that lane 0's id is for
  uint32_t id = 0;

  KVS_DEVICE uint32_t FirstToken() const {
    return at.tile * Traits::kTileTokens + warp * Traits::kTokens;
  }

  KVS_DEVICE void FetchIds() {
    ids_tile = at.tile;
    const uint32_t token = FirstToken() + lane / Traits::kRowTiles * Traits::kTileTokens +
                           lane % Traits::kRowTiles * 16;
    const uint32_t block = token / params.kv.layout.block_size;
    id = token < at.info.seq_len
             ? params.block_tables[size_t{at.seq} * params.max_blocks_per_seq + block].value
             : 0;
  }

  // Starts the copies of the next tile into `stage`, if there is one, and closes their group.
  KVS_DEVICE void LoadNext(uint32_t stage) {
    if (at.left > 0) {
      if (at.tile - ids_tile >= kIdTiles) FetchIds();
#pragma unroll
      for (uint32_t r = 0; r < Traits::kRowTiles; ++r) {
        const uint32_t holder = (at.tile - ids_tile) * Traits::kRowTiles + r;
        const uint32_t block = ShuffleFrom(id, holder);
        CopyRows(block, FirstToken() + r * 16,
                 stages + stage * Traits::kStageBytes + r * 16 * Traits::kRowBytes);
      }
      if (at.Advance(plan, params.kv.layout.num_kv_heads)) FetchIds();
    }
    CommitAsyncCopies();
  }

  // K and V of 16 tokens that lie in one block.
  KVS_DEVICE void CopyRows(uint32_t block, uint32_t token, uint8_t* to) {
    const KvLayout& layout = params.kv.layout;
    const size_t plane_bytes = layout.PlaneElements() * SizeOf(layout.dtype);
    const uint8_t* k = static_cast<const uint8_t*>(params.kv.data) +
                       layout.KOffset(BlockId{block}, at.kv_head) * SizeOf(layout.dtype) +
                       size_t{token % layout.block_size} * Traits::kRowBytes;
    const uint32_t valid = at.info.seq_len > token ? at.info.seq_len - token : 0;
#pragma unroll
    for (uint32_t i = 0; i < Traits::kRowPieces * 16 / kWarpSize; ++i) {
      const uint32_t index = i * kWarpSize + lane;
      const uint32_t row = index / Traits::kRowPieces;
      const uint32_t offset = SwizzledOffset<Traits::kRowBytes>(row, index % Traits::kRowPieces);
      // Rows beyond the sequence become zero: whatever stands there must not reach the sums.
      AsyncCopy16(to + offset, k + index * 16, row < valid);
      AsyncCopy16(to + Traits::kPlaneBytes + offset, k + plane_bytes + index * 16, row < valid);
    }
  }
};

// The queries of one pair as B fragments; heads beyond the group are zero. With FP8 a lane takes 16
// consecutive bytes of a K row at once and declares bytes 4s..4s+3 to be the four k of step s, so
// the queries are read in that order too.
template <class Traits, class Act>
struct DecodeQueries {
  uint32_t pairs[Traits::kHeadTiles][Traits::kDimTiles][2];

  KVS_DEVICE void Load(const Act* query, uint32_t group, uint32_t lane) {
    const uint32_t g = lane / 4, t = lane % 4;
#pragma unroll
    for (uint32_t n = 0; n < Traits::kHeadTiles; ++n) {
      const uint32_t head = n * 8 + g;
#pragma unroll
      for (uint32_t k = 0; k < Traits::kDimTiles; ++k) {
        const uint32_t first =
            Traits::kIsFp8 ? (k / 4) * 64 + 16 * t + 4 * (k % 4) : 16 * k + 2 * t;
        const uint32_t second = Traits::kIsFp8 ? first + 2 : first + 8;
        const bool valid = head < group;
        pairs[n][k][0] = valid ? Pair(query + head * Traits::kHeadDim + first) : 0;
        pairs[n][k][1] = valid ? Pair(query + head * Traits::kHeadDim + second) : 0;
      }
    }
  }

 private:
  KVS_DEVICE static uint32_t Pair(const Act* at) {
    return Pack2<typename Traits::Compute>(ToFloat(at[0]), ToFloat(at[1]));
  }
};

// scores[n] += K of 16 tokens times the queries.
template <class Traits, class Queries>
KVS_DEVICE void MultiplyKeys(const uint8_t* keys, const Queries& queries, uint32_t lane,
                             float (&scores)[Traits::kHeadTiles][4]) {
  using Compute = typename Traits::Compute;
  if constexpr (Traits::kIsFp8) {
    const uint32_t g = lane / 4, t = lane % 4;
#pragma unroll
    for (uint32_t half = 0; half < Traits::kHeadDim / 64; ++half) {
      const uint32_t offset = SwizzledOffset<Traits::kRowBytes>(g, half * 4 + t);
      // Row g + 8 is swizzled as row g.
      const uint4 low = *reinterpret_cast<const uint4*>(keys + offset);
      const uint4 high = *reinterpret_cast<const uint4*>(keys + offset + 8 * Traits::kRowBytes);
      const uint32_t lows[4] = {low.x, low.y, low.z, low.w};
      const uint32_t highs[4] = {high.x, high.y, high.z, high.w};
#pragma unroll
      for (uint32_t s = 0; s < 4; ++s) {
        const uint32_t a[4] = {Traits::Read::Widen2(lows[s]), Traits::Read::Widen2(highs[s]),
                               Traits::Read::Widen2(lows[s] >> 16),
                               Traits::Read::Widen2(highs[s] >> 16)};
#pragma unroll
        for (uint32_t n = 0; n < Traits::kHeadTiles; ++n) {
          const auto& q = queries.pairs[n][half * 4 + s];
          Mma16x8x16<Compute>(scores[n], a, q[0], q[1]);
        }
      }
    }
  } else {
#pragma unroll
    for (uint32_t k = 0; k < Traits::kDimTiles; ++k) {
      uint32_t a[4];
      LoadMatrices(a, keys + SwizzledOffset<Traits::kRowBytes>(lane & 15, 2 * k + (lane >> 4)));
#pragma unroll
      for (uint32_t n = 0; n < Traits::kHeadTiles; ++n) {
        Mma16x8x16<Compute>(scores[n], a, queries.pairs[n][k][0], queries.pairs[n][k][1]);
      }
    }
  }
}

// out[n][d] += V^T times the probabilities. Which dim an element of out is for: DimOf.
template <class Traits>
KVS_DEVICE void MultiplyValues(const uint8_t* values, const uint32_t (&p)[Traits::kHeadTiles][2],
                               uint32_t lane,
                               float (&out)[Traits::kHeadTiles][Traits::kDimTiles][4]) {
  using Compute = typename Traits::Compute;
  if constexpr (Traits::kIsFp8) {
    // Pairs of bytes are transposed as if they were 16-bit elements; a byte permutation then puts
    // the two tokens of one dim side by side.
#pragma unroll
    for (uint32_t d = 0; d < Traits::kDimTiles; d += 2) {
      uint32_t r[4];
      LoadMatricesTransposed(
          r, values + SwizzledOffset<Traits::kRowBytes>(lane & 15, d + (lane >> 4)));
#pragma unroll
      for (uint32_t i = 0; i < 2; ++i) {
        const uint32_t early = __byte_perm(r[2 * i], 0, 0x3120);
        const uint32_t late = __byte_perm(r[2 * i + 1], 0, 0x3120);
        const uint32_t a[4] = {Traits::Read::Widen2(early), Traits::Read::Widen2(early >> 16),
                               Traits::Read::Widen2(late), Traits::Read::Widen2(late >> 16)};
#pragma unroll
        for (uint32_t n = 0; n < Traits::kHeadTiles; ++n) {
          Mma16x8x16<Compute>(out[n][d + i], a, p[n][0], p[n][1]);
        }
      }
    }
  } else {
    const uint32_t row = (lane & 7) + ((lane >> 4) << 3);
#pragma unroll
    for (uint32_t d = 0; d < Traits::kDimTiles; ++d) {
      uint32_t a[4];
      LoadMatricesTransposed(
          a, values + SwizzledOffset<Traits::kRowBytes>(row, 2 * d + ((lane >> 3) & 1)));
#pragma unroll
      for (uint32_t n = 0; n < Traits::kHeadTiles; ++n) {
        Mma16x8x16<Compute>(out[n][d], a, p[n][0], p[n][1]);
      }
    }
  }
}

// The dim of out[.][tile][2 * half + .] in a lane with lane / 4 == g.
template <class Traits>
KVS_DEVICE constexpr uint32_t DimOf(uint32_t tile, uint32_t half, uint32_t g) {
  return Traits::kIsFp8 ? tile * 16 + 2 * g + half : tile * 16 + 8 * half + g;
}

// The running softmax of one warp: out is the sum of exp2(score - max) * v, sum that of the
// weights. Element 0 and 1 of a head tile belong to heads 2t and 2t + 1. `sum` holds this lane's
// tokens alone until it is reduced.
template <class Traits>
struct DecodeState {
  float max[Traits::kHeadTiles][2];
  float sum[Traits::kHeadTiles][2];
  float out[Traits::kHeadTiles][Traits::kDimTiles][4];

  KVS_DEVICE void Clear() {
#pragma unroll
    for (uint32_t n = 0; n < Traits::kHeadTiles; ++n) {
      max[n][0] = max[n][1] = kNoScore;
      sum[n][0] = sum[n][1] = 0.0f;
#pragma unroll
      for (uint32_t d = 0; d < Traits::kDimTiles; ++d) {
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) out[n][d][i] = 0.0f;
      }
    }
  }

  // Takes in the scores of one tile (base 2, masked ones -infinity) and returns their weights as B
  // fragments.
  KVS_DEVICE void Update(const float (&scores)[Traits::kRowTiles][Traits::kHeadTiles][4],
                         uint32_t (&p)[Traits::kRowTiles][Traits::kHeadTiles][2]) {
#pragma unroll
    for (uint32_t n = 0; n < Traits::kHeadTiles; ++n) {
      float top0 = max[n][0], top1 = max[n][1];
#pragma unroll
      for (uint32_t r = 0; r < Traits::kRowTiles; ++r) {
        top0 = fmaxf(top0, fmaxf(scores[r][n][0], scores[r][n][2]));
        top1 = fmaxf(top1, fmaxf(scores[r][n][1], scores[r][n][3]));
      }
#pragma unroll
      for (uint32_t mask = 4; mask < kWarpSize; mask *= 2) {
        top0 = fmaxf(top0, ShuffleXor(top0, mask));
        top1 = fmaxf(top1, ShuffleXor(top1, mask));
      }
      if (AnyInWarp(top0 != max[n][0] || top1 != max[n][1])) {
        Rescale(n, exp2f(max[n][0] - top0), exp2f(max[n][1] - top1));
        max[n][0] = top0;
        max[n][1] = top1;
      }
#pragma unroll
      for (uint32_t r = 0; r < Traits::kRowTiles; ++r) {
        const auto& s = scores[r][n];
        const float p0 = exp2f(s[0] - top0), p1 = exp2f(s[1] - top1);
        const float p2 = exp2f(s[2] - top0), p3 = exp2f(s[3] - top1);
        sum[n][0] += p0 + p2;
        sum[n][1] += p1 + p3;
        p[r][n][0] = TransposeMatrix(Pack2<typename Traits::Compute>(p0, p1));
        p[r][n][1] = TransposeMatrix(Pack2<typename Traits::Compute>(p2, p3));
      }
    }
  }

  // Lower than any score; finite, so that the difference of two of them is a number.
  static constexpr float kNoScore = -1e30f;

 private:
  KVS_DEVICE void Rescale(uint32_t n, float factor0, float factor1) {
    sum[n][0] *= factor0;
    sum[n][1] *= factor1;
#pragma unroll
    for (uint32_t d = 0; d < Traits::kDimTiles; ++d) {
      out[n][d][0] *= factor0;
      out[n][d][1] *= factor1;
      out[n][d][2] *= factor0;
      out[n][d][3] *= factor1;
    }
  }
};

// Scales the scores to base 2 and removes tokens outside [begin, end).
template <class Traits>
KVS_DEVICE void ScaleAndMask(float (&scores)[Traits::kHeadTiles][4], float scale, uint32_t token,
                             uint32_t begin, uint32_t end, uint32_t lane) {
  const uint32_t low = token + lane / 4, high = low + 8;
  const bool keep_low = low >= begin && low < end;
  const bool keep_high = high >= begin && high < end;
#pragma unroll
  for (uint32_t n = 0; n < Traits::kHeadTiles; ++n) {
    scores[n][0] = keep_low ? scores[n][0] * scale : -INFINITY;
    scores[n][1] = keep_low ? scores[n][1] * scale : -INFINITY;
    scores[n][2] = keep_high ? scores[n][2] * scale : -INFINITY;
    scores[n][3] = keep_high ? scores[n][3] * scale : -INFINITY;
  }
}

}  // namespace kvs::gpu
