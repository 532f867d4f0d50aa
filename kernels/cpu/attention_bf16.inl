// Attention over caches of bf16 and FP8 by dot products of bf16: exact for K and V, Q and the
// probabilities rounded to bf16.
#pragma once

#include "cpu/attention_f32.inl"
#include "cpu/bf16_avx512.inl"
#include "cpu/unpack_avx512.inl"

namespace kvs::cpu {
namespace {

// 2^x with a relative error below 2.7e-6, where rounding to bf16 makes 2e-3: a polynomial on the
// fraction of x, [0, 1) (minimax of the relative error). Exactly 0 for -infinity, NaN for NaN.
inline __m512 Exp2ForBf16(__m512 x) {
  constexpr int kFraction = 0x09;  // x - floor(x), without exceptions
  const __m512 r = _mm512_reduce_ps(x, kFraction);
  __m512 p = _mm512_set1_ps(1.3534167916e-02f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.2011460610e-02f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.4144275689e-01f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.9300383447e-01f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0000025934e+00f));
  return _mm512_scalef_ps(p, x);  // by 2^floor(x)
}

// What bf16 and FP8 caches have in common. Products::Op is the dot product of pairs of bf16, as
// OpBf16Dot, and Products::kTilePositions how many positions are unpacked for it.
template <class Products>
struct FormatBf16Base {
  static constexpr uint32_t kTilePositions = Products::kTilePositions;
  static_assert(kTilePositions * sizeof(uint16_t) <= kUnpackedDimBytes);
  static_assert(kRangePositions % kTilePositions == 0);
  static constexpr size_t kQueryStride = kQueryBlockDims * 2 + 64;
  static constexpr uint32_t kChunk = 32;
  static constexpr uint32_t kDimUnit = 32;
  using ScoreOp = typename Products::template Op<kQueryStride / 4, kTilePositions,
                                                 StreamsAhead<kTilePositions / kGroup>>;
  using ValueOp = typename Products::template Op<kScoreRowBytes / 4, kPanelDims, NothingAhead>;

  static __m512i LoadQuery(const float* q, uint32_t dims) {
    return ToBf16(Vec::LoadN(q, Min(dims, 16)),
                  dims > 16 ? Vec::LoadN(q + 16, Min(dims - 16, 16)) : Vec::Zero());
  }

  // Calls fn(first, second, to) with 64 bytes of the rows of two consecutive positions, `dims` dims
  // each, and where their pairs belong in values[panel][position / 2][kPanelDims]. Zeros stand for
  // positions past the valid ones and for dims past the row.
  template <class Fn>
  static void ForEachValuePair(const QueryTile& tile, const PositionTile& at, uint32_t dims,
                               uint8_t* values, const Fn& fn) {
    for (uint32_t group = 0; group < at.valid; group += kGroup) {
      const uint32_t count = Min(kGroup, at.valid - group);
      const uint8_t* from = KeyAt(tile, at.first + group) + tile.v_bytes;
      const uint8_t* ahead = AheadOfValues<kTilePositions>(tile, at, at.first + group);
      uint8_t* to = values + size_t{group / 2} * kPanelDims * 4;
      if (count == kGroup && tile.head_dim % kPanelDims == 0) {
        PairsOfGroup<true>(tile, count, dims, from, ahead, to, fn);
      } else {
        PairsOfGroup<false>(tile, count, dims, from, ahead, to, fn);
      }
    }
  }

  // Those of `count` positions of one block; `kWhole` where there are kGroup of them, and dims fill
  // whole panels.
  template <bool kWhole, class Fn>
  static void PairsOfGroup(const QueryTile& tile, uint32_t count, uint32_t dims,
                           const uint8_t* from, const uint8_t* ahead, uint8_t* to, const Fn& fn) {
    const size_t element = 64 / dims;
    const size_t row_bytes = tile.head_dim * element;
    for (uint32_t p = 0; p < count; p += 2) {
      for (uint32_t dim = 0; dim < PaddedDim(tile.head_dim); dim += dims) {
        const uint8_t* first = from + p * row_bytes + dim * element;
        uint8_t* const pairs =
            to + ((size_t{dim / kPanelDims} * (kTilePositions / 2) + p / 2) * kPanelDims +
                  dim % kPanelDims) *
                     4;
        __builtin_prefetch(ahead + p * row_bytes + dim * element * 2);
        __builtin_prefetch(ahead + p * row_bytes + dim * element * 2 + 64);
        if constexpr (kWhole) {
          fn(_mm512_loadu_si512(first), _mm512_loadu_si512(first + row_bytes), pairs);
        } else {
          const uint32_t bytes = dim < tile.head_dim ? (tile.head_dim - dim) * element : 0;
          const __mmask64 mask = FirstBytes(bytes);
          fn(_mm512_maskz_loadu_epi8(mask, first),
             _mm512_maskz_loadu_epi8(p + 1 < count ? mask : 0, first + row_bytes), pairs);
        }
      }
    }
  }

  // As FormatF32's, rounded to bf16; the sums are taken before. A store never passes the loads,
  // since it is half as wide.
  static Vec::Float ExpAndPack(float scale, float largest, uint32_t n, uint8_t* row) {
    constexpr float kLog2E = 1.44269504088896341f;
    const auto* scores = reinterpret_cast<const float*>(row);
    const Vec::Float scale_vec = Vec::Set1(scale * kLog2E), offset = Vec::Set1(-largest * kLog2E);
    const auto exp_at = [&](uint32_t i) {
      return Exp2ForBf16(Vec::Fma(Vec::Load(scores + i), scale_vec, offset));
    };
    Vec::Float sum = Vec::Zero();
    for (uint32_t i = 0; i < n; i += 32) {
      const Vec::Float low = exp_at(i);
      const Vec::Float high = exp_at(i + 16);
      sum = Vec::Add(sum, Vec::Add(low, high));
      _mm512_storeu_si512(row + i * 2, ToBf16(low, high));
    }
    return sum;
  }

  static void ZeroProbabilities(uint8_t* row, uint32_t begin, uint32_t end) {
    for (uint32_t i = begin; i < end; i += 32) {
      _mm512_storeu_si512(row + i * 2, _mm512_setzero_si512());
    }
  }
};

template <class Products>
struct FormatBf16 : FormatBf16Base<Products> {
  using Base = FormatBf16Base<Products>;

  static void PackQuery(const float* q, uint32_t dims, uint8_t* out) {
    for (uint32_t i = 0; i < dims; i += 32) {
      _mm512_storeu_si512(out + i * 2, Base::LoadQuery(q + i, dims - i));
    }
  }

  // keys[dim / 2][position] of pairs
  static void PackKeys(const QueryTile& tile, const PositionTile& at, uint8_t* keys) {
    const size_t row_bytes = size_t{tile.head_dim} * 2;
    for (uint32_t p = 0; p < at.valid; p += 16) {
      const uint8_t* from = KeyAt(tile, at.first + p);
      const uint8_t* ahead = AheadOfKeys<Base::kTilePositions>(tile, at, at.first + p);
      for (uint32_t dim = 0; dim < tile.head_dim; dim += 32) {
        __m512i rows[16];
        LoadRows16(from + dim * 2, ahead + dim * 2 * 16, row_bytes, at.valid - p,
                   (tile.head_dim - dim) * 2, rows);
        Transpose16x16(rows);
        uint8_t* to = keys + (size_t{dim / 2} * Base::kTilePositions + p) * 4;
        for (uint32_t i = 0; i < 16; ++i) {
          _mm512_storeu_si512(to + i * Base::kTilePositions * 4, rows[i]);
        }
      }
    }
  }

  // values[panel][position / 2][kPanelDims] of pairs
  static void PackValues(const QueryTile& tile, const PositionTile& at, uint8_t* values) {
    alignas(64) uint16_t order[32];
    for (uint16_t i = 0; i < 16; ++i) {
      order[2 * i] = i;
      order[2 * i + 1] = static_cast<uint16_t>(32 + i);
    }
    const __m512i low_order = _mm512_load_si512(order);
    const __m512i high_order = _mm512_add_epi16(low_order, _mm512_set1_epi16(16));
    Base::ForEachValuePair(tile, at, 32, values, [&](__m512i first, __m512i second, uint8_t* to) {
      _mm512_storeu_si512(to, _mm512_permutex2var_epi16(first, low_order, second));
      _mm512_storeu_si512(to + 64, _mm512_permutex2var_epi16(first, high_order, second));
    });
  }
};

template <class Products>
struct FormatFp8 : FormatBf16Base<Products> {
  using Base = FormatBf16Base<Products>;

  // Of four dims, keys come as the pairs (0, 2) and (1, 3): so do the queries.
  static void PackQuery(const float* q, uint32_t dims, uint8_t* out) {
    for (uint32_t i = 0; i < dims; i += 32) {
      const __m512i swapped = _mm512_shufflelo_epi16(Base::LoadQuery(q + i, dims - i), 0xd8);
      _mm512_storeu_si512(out + i * 2, _mm512_shufflehi_epi16(swapped, 0xd8));
    }
  }

  // Transposes while the codes are still bytes, four dims to a dword, then decodes.
  static void PackKeys(const QueryTile& tile, const PositionTile& at, uint8_t* keys) {
    const Fp8Decoder decoder(*tile.fp8);
    const __m512i even_bytes = _mm512_set1_epi16(0x00ff);
    const __m512i odd_bytes = _mm512_set1_epi16(static_cast<int16_t>(0xff00));
    for (uint32_t p = 0; p < at.valid; p += 16) {
      const uint8_t* from = KeyAt(tile, at.first + p);
      const uint8_t* ahead = AheadOfKeys<Base::kTilePositions>(tile, at, at.first + p);
      for (uint32_t dim = 0; dim < tile.head_dim; dim += 64) {
        __m512i rows[16];
        LoadRows16(from + dim, ahead + dim * 16, tile.head_dim, at.valid - p, tile.head_dim - dim,
                   rows);
        Transpose16x16(rows);
        uint8_t* to = keys + (size_t{dim / 2} * Base::kTilePositions + p) * 4;
        for (uint32_t i = 0; i < 16; ++i) {
          __m512i low, high;
          decoder.Bytes(rows[i], &low, &high);
          // (low & even) | high << 8, and (high & odd) | low >> 8, in each 16 bits
          const __m512i dims02 =
              _mm512_ternarylogic_epi32(low, even_bytes, _mm512_slli_epi16(high, 8), 0xea);
          const __m512i dims13 =
              _mm512_ternarylogic_epi32(high, odd_bytes, _mm512_srli_epi16(low, 8), 0xea);
          _mm512_storeu_si512(to + 2 * i * Base::kTilePositions * 4, dims02);
          _mm512_storeu_si512(to + (2 * i + 1) * Base::kTilePositions * 4, dims13);
        }
      }
    }
  }

  static void PackValues(const QueryTile& tile, const PositionTile& at, uint8_t* values) {
    const Fp8Decoder decoder(*tile.fp8);
    // Bytes of two rows side by side, such that the unpack below leaves the dims in order.
    alignas(64) uint8_t order[64];
    for (uint32_t i = 0; i < 64; ++i) {
      const uint32_t lane = i / 16, in_lane = i % 16;
      const uint32_t dim = 4 * lane + in_lane / 8 * 16 + in_lane % 8 / 2;
      order[i] = static_cast<uint8_t>(dim + i % 2 * 64);
    }
    const __m512i low_order = _mm512_load_si512(order);
    const __m512i high_order = _mm512_add_epi8(low_order, _mm512_set1_epi8(32));
    Base::ForEachValuePair(tile, at, 64, values, [&](__m512i first, __m512i second, uint8_t* to) {
      for (uint32_t half = 0; half < 2; ++half) {
        const __m512i codes =
            _mm512_permutex2var_epi8(first, half == 0 ? low_order : high_order, second);
        __m512i low, high;
        decoder.Bytes(codes, &low, &high);
        _mm512_storeu_si512(to + half * 128, _mm512_unpacklo_epi8(low, high));
        _mm512_storeu_si512(to + half * 128 + 64, _mm512_unpackhi_epi8(low, high));
      }
    });
  }
};

// f16 and f32 caches go through float32.
template <class Products>
void PackQueriesBf16(const QueryTile& tile, const AttentionScratch& scratch) {
  if (IsFp8(tile.dtype)) {
    PackQueries<FormatFp8<Products>>(tile, scratch);
  } else if (tile.dtype == KvCacheDType::kBf16) {
    PackQueries<FormatBf16<Products>>(tile, scratch);
  } else {
    kAttentionKernelsF32.pack_queries(tile, scratch);
  }
}

template <class Products>
void AttendBf16(const QueryTile& tile, uint32_t range, const AttentionScratch& scratch,
                float* partial) {
  if (IsFp8(tile.dtype)) {
    AttendRange<FormatFp8<Products>>(tile, range, scratch, partial);
  } else if (tile.dtype == KvCacheDType::kBf16) {
    AttendRange<FormatBf16<Products>>(tile, range, scratch, partial);
  } else {
    kAttentionKernelsF32.attend(tile, range, scratch, partial);
  }
}

}  // namespace
}  // namespace kvs::cpu
