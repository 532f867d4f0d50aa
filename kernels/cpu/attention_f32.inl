// The Format of attention.inl that every instruction set has: float32, whatever the cache holds.
#pragma once

#include "cpu/attention.inl"

namespace kvs::cpu {
namespace {

struct FormatF32 {
  static constexpr uint32_t kTilePositions = kUnpackedDimBytes / sizeof(float);
  static constexpr size_t kQueryStride = kQueryRowBytes;
  static constexpr uint32_t kChunk = Vec::kWidth;
  static constexpr uint32_t kDimUnit = 1;
  using ScoreOp = OpF32<kQueryStride / sizeof(float), kTilePositions>;
  using ValueOp = OpF32<kScoreRowBytes / sizeof(float), kPanelDims>;

  static void PackQuery(const float* q, uint32_t dims, uint8_t* out) {
    __builtin_memcpy(out, q, dims * sizeof(float));
  }

  // out[0, kPanelDims) = the `dims` elements at `from`, then zeros. dims <= kPanelDims.
  static void Decode(const QueryTile& tile, const uint8_t* from, const uint8_t* ahead,
                     uint32_t dims, float* out) {
    const size_t num_bytes = dims * SizeOf(tile.dtype);
    for (size_t byte = 0; byte < num_bytes; byte += 64) __builtin_prefetch(ahead + byte);
    if (dims == kPanelDims) {
      DecodePanel(tile, from, out);
    } else {
      alignas(float) uint8_t padded[kPanelDims * sizeof(float)] = {};
      __builtin_memcpy(padded, from, num_bytes);
      DecodePanel(tile, padded, out);
    }
  }

  static void DecodePanel(const QueryTile& tile, const uint8_t* from, float* out) {
    const auto* halves = reinterpret_cast<const uint16_t*>(from);
    switch (tile.dtype) {
      case KvCacheDType::kF32:
        __builtin_memcpy(out, from, kPanelDims * sizeof(float));
        return;
      case KvCacheDType::kF16:
        for (uint32_t i = 0; i < kPanelDims; i += Vec::kWidth) {
          Vec::Store(out + i, Vec::LoadF16(halves + i));
        }
        return;
      case KvCacheDType::kBf16:
        for (uint32_t i = 0; i < kPanelDims; i += Vec::kWidth) {
          Vec::Store(out + i, Vec::LoadBf16(halves + i));
        }
        return;
      case KvCacheDType::kF8E4M3:
      case KvCacheDType::kF8E5M2:
        DecodeFp8Panel<Vec>(tile, from, out);
        return;
    }
  }

  template <class V>
  static void DecodeFp8Panel(const QueryTile& tile, const uint8_t* from, float* out) {
    if constexpr (requires { &V::LoadE4M3; }) {
      typename V::Float first, second;
      for (uint32_t i = 0; i < kPanelDims; i += 2 * V::kWidth) {
        if (tile.dtype == KvCacheDType::kF8E4M3) {
          V::LoadE4M3(from + i, &first, &second);
        } else {
          V::LoadE5M2(from + i, &first, &second);
        }
        V::Store(out + i, first);
        V::Store(out + i + V::kWidth, second);
      }
    } else {
      for (uint32_t i = 0; i < kPanelDims; ++i) out[i] = tile.fp8->values[from[i]];
    }
  }

  // The rows of `count` positions of one block that stand one behind the other; `to` gets
  // kPanelDims of each, `to_stride` floats apart.
  static void DecodeRows(const QueryTile& tile, const uint8_t* from, const uint8_t* ahead,
                         uint32_t dims, uint32_t count, float* to, size_t to_stride) {
    const size_t row_bytes = tile.head_dim * SizeOf(tile.dtype);
    for (uint32_t r = 0; r < count; ++r) {
      Decode(tile, from + r * row_bytes, ahead + r * row_bytes, dims, to + r * to_stride);
    }
  }

  // keys[dim][position]; positions past `valid` get anything: nobody reads their scores.
  static void PackKeys(const QueryTile& tile, const PositionTile& at, uint8_t* keys) {
    static_assert(kGroup % Vec::kWidth == 0);
    auto* to = reinterpret_cast<float*>(keys);
    const size_t element = SizeOf(tile.dtype);
    float rows[Vec::kWidth][kPanelDims];
    for (uint32_t p = 0; p < at.valid; p += Vec::kWidth) {
      const uint8_t* from = KeyAt(tile, at.first + p);
      const uint8_t* ahead = AheadOfKeys<kTilePositions>(tile, at, at.first + p);
      const uint32_t count = Min(Vec::kWidth, at.valid - p);
      if (count < Vec::kWidth) __builtin_memset(rows, 0, sizeof rows);
      for (uint32_t dim = 0; dim < tile.head_dim; dim += kPanelDims) {
        DecodeRows(tile, from + dim * element, ahead + dim * element,
                   Min(kPanelDims, tile.head_dim - dim), count, rows[0], kPanelDims);
        for (uint32_t i = 0; i < kPanelDims; i += Vec::kWidth) {
          Vec::Transpose(rows[0] + i, kPanelDims, to + size_t{dim + i} * kTilePositions + p,
                         kTilePositions);
        }
      }
    }
  }

  // values[panel][position][kPanelDims]
  static void PackValues(const QueryTile& tile, const PositionTile& at, uint8_t* values) {
    auto* to = reinterpret_cast<float*>(values);
    const size_t element = SizeOf(tile.dtype);
    for (uint32_t p = 0; p < at.valid; p += kGroup) {
      const uint8_t* from = KeyAt(tile, at.first + p) + tile.v_bytes;
      const uint8_t* ahead = AheadOfValues<kTilePositions>(tile, at, at.first + p);
      const uint32_t count = Min(kGroup, at.valid - p);
      for (uint32_t dim = 0; dim < tile.head_dim; dim += kPanelDims) {
        DecodeRows(tile, from + dim * element, ahead + dim * element,
                   Min(kPanelDims, tile.head_dim - dim), count,
                   to + (size_t{dim / kPanelDims} * kTilePositions + p) * kPanelDims, kPanelDims);
      }
    }
  }

  // The first n scores of a row become exp(score * scale - largest). Returns their sums.
  static Vec::Float ExpAndPack(float scale, float largest, uint32_t n, uint8_t* row) {
    auto* scores = reinterpret_cast<float*>(row);
    const Vec::Float scale_vec = Vec::Set1(scale), largest_vec = Vec::Set1(largest);
    Vec::Float sum = Vec::Zero();
    for (uint32_t i = 0; i < n; i += Vec::kWidth) {
      const Vec::Float p = Exp(Vec::Sub(Vec::Mul(Vec::Load(scores + i), scale_vec), largest_vec));
      sum = Vec::Add(sum, p);
      Vec::Store(scores + i, p);
    }
    return sum;
  }

  static void ZeroProbabilities(uint8_t* row, uint32_t begin, uint32_t end) {
    auto* to = reinterpret_cast<float*>(row);
    for (uint32_t i = begin; i < end; ++i) to[i] = 0.0f;
  }
};

inline constexpr AttentionKernels kAttentionKernelsF32 = {
    .query_rows = kMaxQueryRows / 2,
    .pack_queries = &PackQueries<FormatF32>,
    .attend = &AttendRange<FormatF32>,
    .merge = &MergeStates,
    .finish = &FinishRow,
};

}  // namespace
}  // namespace kvs::cpu
