// The decode attention kernel. See paged_decode.h for the plan it follows.
//
// One warp owns kTokens of the tokens of a tile and works alone until its piece ends: it keeps
// several tiles of K and V on their way to its own part of shared memory, multiplies K by the
// queries (S^T = K Q^T), keeps a running softmax, and multiplies V^T by P^T. The warps of a block
// meet only to merge their states at the end of each (sequence, KV head) pair.
#pragma once

#include "gpu/fast_math.cuh"
#include "gpu/kv_read.cuh"
#include "gpu/mma.cuh"
#include "gpu/paged_decode_load.cuh"

namespace kvs::gpu {

// Tokens that one warp takes at a time: 16 rows, or 32 where rows are so short that twice as many
// hide the latency of the instructions better.
constexpr uint32_t DecodeWarpTokens(KvCacheDType dtype, uint32_t head_dim) {
  return head_dim * SizeOf(dtype) <= 128 ? 32 : 16;
}

// Bytes of K and V of these tokens, and how many such stages a warp has: about 24 KiB of each warp
// in flight. With 8 warps on a multiprocessor that is several times what the latency of device
// memory asks for.
constexpr uint32_t DecodeStageBytes(KvCacheDType dtype, uint32_t head_dim) {
  return 2 * DecodeWarpTokens(dtype, head_dim) * head_dim * SizeOf(dtype);
}
constexpr uint32_t DecodeStages(KvCacheDType dtype, uint32_t head_dim) {
  const uint32_t stages = 24576 / DecodeStageBytes(dtype, head_dim);
  return stages < 2 ? 2 : stages;
}

// Floats from one head to the next where warps meet, so that lanes that store the same dims of
// neighbouring heads do so in different banks.
constexpr uint32_t DecodeHeadStride(KvCacheDType dtype, uint32_t head_dim) {
  return head_dim + (SizeOf(dtype) == 1 ? 8 : 4);
}

template <KvCacheDType dtype, uint32_t kHeadDim_, uint32_t kHeadTiles_>
struct DecodeTraits {
  using Read = KvRead<dtype>;
  using Compute = typename Read::Compute;
  static constexpr KvCacheDType kDType = dtype;
  static constexpr uint32_t kBytes = SizeOf(dtype);
  static constexpr uint32_t kHeadDim = kHeadDim_;
  static constexpr uint32_t kHeadTiles = kHeadTiles_;  // of 8 query heads
  static constexpr uint32_t kHeads = 8 * kHeadTiles;
  static constexpr uint32_t kTokens = DecodeWarpTokens(dtype, kHeadDim);
  static constexpr uint32_t kRowTiles = kTokens / 16;  // of the matrix instruction
  static constexpr uint32_t kRowBytes = kHeadDim * kBytes;
  static constexpr uint32_t kRowPieces = kRowBytes / 16;
  static constexpr uint32_t kPlaneBytes = kTokens * kRowBytes;
  static constexpr uint32_t kStageBytes = DecodeStageBytes(dtype, kHeadDim);
  static constexpr uint32_t kStages = DecodeStages(dtype, kHeadDim);
  static constexpr uint32_t kHeadStride = DecodeHeadStride(dtype, kHeadDim);
  static constexpr uint32_t kDimTiles = kHeadDim / 16;
  // Of other blocks' parts, what a lane awaits together: quads of dims (those of whole heads in a
  // warp), of so many parts.
  static constexpr uint32_t kJoinQuads = 4;
  static constexpr uint32_t kJoinParts = 2;
  static constexpr bool kIsFp8 = kBytes == 1;
  static_assert(kRowTiles * 16 == kTokens && kStageBytes == 2 * kPlaneBytes);
};

// Where a lane reads K and V of 16 tokens.
template <class Traits>
struct DecodeReads {
  uint32_t keys;    // its first pieces of K; the next ones by exclusive or with their distance
  uint32_t values;  // and of V

  KVS_DEVICE explicit DecodeReads(uint32_t lane) {
    constexpr uint32_t kRowBytes = Traits::kRowBytes;
    if constexpr (Traits::kIsFp8) {
      keys = Kept(SwizzledOffset<kRowBytes>(lane / 4, lane % 4));
      values = Kept(SwizzledOffset<kRowBytes>(lane & 15, lane >> 4));
    } else {
      keys = Kept(SwizzledOffset<kRowBytes>(lane & 15, lane >> 4));
      values = Kept(SwizzledOffset<kRowBytes>((lane & 7) + ((lane >> 4) << 3), (lane >> 3) & 1));
    }
  }
};

// The queries of one pair as B fragments; heads beyond the group are zero. With FP8 a lane takes 16
// consecutive bytes of a K row at once and declares bytes 4s..4s+3 to be the four k of step s, so
// the queries are read in that order too.
template <class Traits, class Act>
struct DecodeQueries {
  using Compute = typename Traits::Compute;

  uint32_t pairs[Traits::kHeadTiles][Traits::kDimTiles][2];

  float scale;  // of scores, to base 2

  // Of the pair at `at`, whose heads lie at `heads` and every `stride` elements from there on.
  KVS_DEVICE void LoadPair(const PagedAttentionParams& params, const DecodeCursor& at,
                           const Act* heads, uint32_t stride, uint32_t lane) {
    Load(heads, stride, params.num_heads / params.kv.layout.num_kv_heads, lane);
    scale = params.sm_scale * params.kv.k_scale[at.kv_head] * Traits::Read::kRescale * 1.44269504f;
  }

 private:
  KVS_DEVICE void Load(const Act* heads, uint32_t stride, uint32_t group, uint32_t lane) {
    const uint32_t g = lane / 4, t = lane % 4;
#pragma unroll
    for (uint32_t n = 0; n < Traits::kHeadTiles; ++n) {
      const uint32_t head = n * 8 + g;
      const bool valid = head < group;
      const Act* row = heads + head * stride;
      if constexpr (Traits::kIsFp8) {
#pragma unroll
        for (uint32_t i = 0; i < Traits::kDimTiles / 2; ++i) {  // 16 bytes, two steps
          uint4 words = uint4{0, 0, 0, 0};
          if (valid) words = reinterpret_cast<const uint4*>(row + i / 2 * 64 + 16 * t)[i % 2];
          pairs[n][2 * i][0] = ConvertPair<Act, Compute>(words.x);
          pairs[n][2 * i][1] = ConvertPair<Act, Compute>(words.y);
          pairs[n][2 * i + 1][0] = ConvertPair<Act, Compute>(words.z);
          pairs[n][2 * i + 1][1] = ConvertPair<Act, Compute>(words.w);
        }
      } else {
#pragma unroll
        for (uint32_t k = 0; k < Traits::kDimTiles; ++k) {
          const auto* words = reinterpret_cast<const uint32_t*>(row + 16 * k + 2 * t);
          pairs[n][k][0] = valid ? ConvertPair<Act, Compute>(words[0]) : 0;
          pairs[n][k][1] = valid ? ConvertPair<Act, Compute>(words[4]) : 0;
        }
      }
    }
  }
};

// scores[n] += K of 16 tokens times the queries.
template <class Traits, class Queries>
KVS_DEVICE void MultiplyKeys(const uint8_t* keys, const Queries& queries, DecodeReads<Traits> reads,
                             float (&scores)[Traits::kHeadTiles][4]) {
  using Compute = typename Traits::Compute;
  if constexpr (Traits::kIsFp8) {
#pragma unroll
    for (uint32_t half = 0; half < Traits::kHeadDim / 64; ++half) {
      const uint8_t* pieces = keys + (reads.keys ^ (half * 64));
      // The row eight further is swizzled in the same way.
      const uint4 low = *reinterpret_cast<const uint4*>(pieces);
      const uint4 high = *reinterpret_cast<const uint4*>(pieces + 8 * Traits::kRowBytes);
      const uint32_t lows[4] = {low.x, low.y, low.z, low.w};
      const uint32_t highs[4] = {high.x, high.y, high.z, high.w};
#pragma unroll
      for (uint32_t s = 0; s < 4; ++s) {
        const uint32_t a[4] = {Traits::Read::Widen2(lows[s], 0), Traits::Read::Widen2(highs[s], 0),
                               Traits::Read::Widen2(lows[s], 1), Traits::Read::Widen2(highs[s], 1)};
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
      LoadMatrices(a, keys + (reads.keys ^ (k * 32)));
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
                               DecodeReads<Traits> reads,
                               float (&out)[Traits::kHeadTiles][Traits::kDimTiles][4]) {
  using Compute = typename Traits::Compute;
  if constexpr (Traits::kIsFp8) {
    // Pairs of bytes are transposed as if they were 16-bit elements; a byte permutation then puts
    // the two tokens of one dim side by side.
#pragma unroll
    for (uint32_t d = 0; d < Traits::kDimTiles; d += 2) {
      uint32_t r[4];
      LoadMatricesTransposed(r, values + (reads.values ^ (d * 16)));
#pragma unroll
      for (uint32_t i = 0; i < 2; ++i) {
        const uint32_t early = __byte_perm(r[2 * i], 0, 0x3120);
        const uint32_t late = __byte_perm(r[2 * i + 1], 0, 0x3120);
        const uint32_t a[4] = {Traits::Read::Widen2(early, 0), Traits::Read::Widen2(early, 1),
                               Traits::Read::Widen2(late, 0), Traits::Read::Widen2(late, 1)};
#pragma unroll
        for (uint32_t n = 0; n < Traits::kHeadTiles; ++n) {
          Mma16x8x16<Compute>(out[n][d + i], a, p[n][0], p[n][1]);
        }
      }
    }
  } else {
#pragma unroll
    for (uint32_t d = 0; d < Traits::kDimTiles; ++d) {
      uint32_t a[4];
      LoadMatricesTransposed(a, values + (reads.values ^ (d * 32)));
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

  // Takes in the scores of one tile (masked ones -infinity), which `scale` brings to base 2, and
  // returns their weights as B fragments.
  KVS_DEVICE void Update(const float (&scores)[Traits::kRowTiles][Traits::kHeadTiles][4],
                         float scale, uint32_t (&p)[Traits::kRowTiles][Traits::kHeadTiles][2]) {
#pragma unroll
    for (uint32_t n = 0; n < Traits::kHeadTiles; ++n) {
      float top0 = -INFINITY, top1 = -INFINITY;
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
      top0 = fmaxf(max[n][0], top0 * scale);
      top1 = fmaxf(max[n][1], top1 * scale);
      if (AnyInWarp(top0 != max[n][0] || top1 != max[n][1])) {
        Rescale(n, Exp2(max[n][0] - top0), Exp2(max[n][1] - top1));
        max[n][0] = top0;
        max[n][1] = top1;
      }
#pragma unroll
      for (uint32_t r = 0; r < Traits::kRowTiles; ++r) {
        const auto& s = scores[r][n];
        const float p0 = Exp2(fmaf(s[0], scale, -top0)), p1 = Exp2(fmaf(s[1], scale, -top1));
        const float p2 = Exp2(fmaf(s[2], scale, -top0)), p3 = Exp2(fmaf(s[3], scale, -top1));
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

// Removes tokens outside [begin, end).
template <class Traits>
KVS_DEVICE void Mask(float (&scores)[Traits::kHeadTiles][4], uint32_t token, uint32_t begin,
                     uint32_t end, uint32_t lane) {
  const uint32_t low = token + lane / 4, high = low + 8;
  const bool keep_low = low >= begin && low < end;
  const bool keep_high = high >= begin && high < end;
#pragma unroll
  for (uint32_t n = 0; n < Traits::kHeadTiles; ++n) {
    scores[n][0] = keep_low ? scores[n][0] : -INFINITY;
    scores[n][1] = keep_low ? scores[n][1] : -INFINITY;
    scores[n][2] = keep_high ? scores[n][2] : -INFINITY;
    scores[n][3] = keep_high ? scores[n][3] : -INFINITY;
  }
}

}  // namespace kvs::gpu
