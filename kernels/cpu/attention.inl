// AttentionKernels over Vec and a Format, which says how queries, keys, probabilities and values
// are laid out for tile.inl.
#pragma once

#include "cpu/attention.h"
#include "cpu/tile.inl"
#include "cpu/vec_math.inl"

namespace kvs::cpu {
namespace {

inline uint32_t Min(uint32_t a, uint32_t b) { return a < b ? a : b; }

constexpr uint32_t RoundUp(uint32_t value, uint32_t unit) {
  return (value + unit - 1) / unit * unit;
}

inline const uint8_t* KeyAt(const QueryTile& tile, uint32_t position) {
  return tile.kv + tile.blocks[position / tile.block_size].value * tile.block_bytes +
         size_t{position % tile.block_size} * tile.head_dim * SizeOf(tile.dtype);
}

inline constexpr uint32_t kGroup = 16;  // positions that surely lie in one block

// The rows of a query tile that see something of a range, and the positions [start, end) of the
// range that one of them sees; start is a multiple of the positions of a tile.
struct RangePart {
  uint32_t first_row;
  uint32_t end_row;
  uint32_t range_start;  // scores are indexed from here
  uint32_t start;
  uint32_t end;
};

// Up to Format::kTilePositions positions of a part, from `first` on.
struct PositionTile {
  uint32_t first;
  uint32_t valid;
  uint32_t start;  // of the part
  uint32_t end;
};

// What is read one tile later than the keys (values) of `position`. Blocks lie anywhere, and the
// processor's own prefetchers stop at a page. A burst of prefetches would stall for want of miss
// buffers: so one stands beside each load of the tile that is unpacked, and while its keys are
// multiplied, its values are brought near: they stand behind the keys in the same page.
template <uint32_t kTilePositions>
const uint8_t* AheadOfKeys(const QueryTile& tile, const PositionTile& at, uint32_t position) {
  if (position + kTilePositions < at.end) return KeyAt(tile, position + kTilePositions);
  const uint32_t first_value = at.start + position % kTilePositions;
  return KeyAt(tile, Min(first_value, at.end - 1)) + tile.v_bytes;
}

template <uint32_t kTilePositions>
const uint8_t* AheadOfValues(const QueryTile& tile, const PositionTile& at, uint32_t position) {
  if (position + kTilePositions < at.end) {
    return KeyAt(tile, position + kTilePositions) + tile.v_bytes;
  }
  const uint32_t next_range =
      (position / kRangePositions + 1) * kRangePositions + position % kTilePositions;
  return KeyAt(tile, Min(next_range, tile.end_position() - 1));
}

template <class Format>
void PackQueries(const QueryTile& tile, const AttentionScratch& scratch) {
  for (uint32_t row = 0; row < tile.num_rows(); ++row) {
    const float* q = tile.q + row / tile.group_size * tile.q_token_stride +
                     size_t{row % tile.group_size} * tile.head_dim;
    for (uint32_t dim = 0; dim < tile.head_dim; dim += kQueryBlockDims) {
      const size_t packed_row = size_t{dim / kQueryBlockDims} * kMaxQueryRows + row;
      Format::PackQuery(q + dim, Min(kQueryBlockDims, tile.head_dim - dim),
                        scratch.q + packed_row * Format::kQueryStride);
    }
  }
}

// Calls fn(first_row, num_rows) for groups of rows of which at least one stands at `position` or
// later.
template <class Op, class Fn>
void ForEachRowTile(const QueryTile& tile, const RangePart& part, uint32_t position, const Fn& fn) {
  for (uint32_t row = part.first_row; row < part.end_row; row += MaxTileRows<Op>()) {
    const uint32_t count = Min(MaxTileRows<Op>(), part.end_row - row);
    if (tile.PositionOf(row + count - 1) >= position) fn(row, count);
  }
}

// scores[row][position - range start] = q . k, unscaled, for one tile of keys.
template <class Format>
void ScoreTile(const QueryTile& tile, const RangePart& part, const PositionTile& at,
               const AttentionScratch& scratch) {
  using Op = typename Format::ScoreOp;
  const size_t element = SizeOf(tile.dtype);
  constexpr uint32_t kStreams = Format::kTilePositions / kGroup;
  static_assert(kStreams <= kMaxStreams);
  const uint8_t* values[kStreams];
  for (uint32_t i = 0; i < kStreams; ++i) {
    values[i] = KeyAt(tile, Min(at.first + i * kGroup, at.end - 1)) + tile.v_bytes;
  }
  Format::PackKeys(tile, at, scratch.unpacked);
  for (uint32_t dim = 0; dim < tile.head_dim; dim += kQueryBlockDims) {
    const uint32_t dims = RoundUp(Min(kQueryBlockDims, tile.head_dim - dim), Format::kDimUnit);
    const size_t q_row = size_t{dim / kQueryBlockDims} * kMaxQueryRows;
    ForEachRowTile<Op>(tile, part, at.first, [&](uint32_t row, uint32_t count) {
      TileArgs<Op> args = {.a = reinterpret_cast<const typename Op::A*>(
                               scratch.q + (q_row + row) * Format::kQueryStride),
                           .b = reinterpret_cast<const typename Op::B*>(scratch.unpacked) +
                                dim / Op::kKPerStep * Format::kTilePositions,
                           .c = reinterpret_cast<float*>(scratch.scores + row * kScoreRowBytes) +
                                (at.first - part.range_start),
                           .c_stride = kScoreRowBytes / sizeof(float),
                           .steps = static_cast<uint32_t>(dims / Op::kKPerStep),
                           .cols = Format::kTilePositions,
                           .accumulate = dim > 0,
                           .ahead_stride = row == part.first_row ? 2 * kGroup * element : 0};
      for (uint32_t i = 0; i < kStreams; ++i) args.ahead[i] = values[i] + dim * kGroup * element;
      Tile<Op>(count, args);
    });
  }
}

// The largest of `n` scores, a multiple of the vectors' width.
inline float LargestScore(const float* scores, uint32_t n) {
  // Several at a time: one after the other would wait for each other.
  Vec::Float largest[4];
  for (Vec::Float& some : largest) some = Vec::Load(scores);
  for (uint32_t i = 0; i < n; i += 4 * Vec::kWidth) {
    const uint32_t last = n - Vec::kWidth;
    for (uint32_t v = 0; v < 4; ++v) {
      largest[v] = Vec::Max(largest[v], Vec::Load(scores + Min(i + v * Vec::kWidth, last)));
    }
  }
  return Vec::ReduceMax(
      Vec::Max(Vec::Max(largest[0], largest[1]), Vec::Max(largest[2], largest[3])));
}

// Turns the scores [begin, end) of a row into probabilities relative to their largest, in place,
// and those before and up to `padded` into zeros.
template <class Format>
void SoftmaxRow(uint8_t* row, uint32_t begin, uint32_t end, uint32_t padded, float scale,
                float* largest, float* sum) {
  auto* scores = reinterpret_cast<float*>(row);
  const uint32_t chunks_end = RoundUp(end, Format::kChunk);
  for (uint32_t i = 0; i < begin; ++i) scores[i] = -__builtin_inff();
  for (uint32_t i = end; i < chunks_end; ++i) scores[i] = -__builtin_inff();
  *largest = LargestScore(scores, chunks_end) * scale;
  *sum = Vec::ReduceAdd(Format::ExpAndPack(scale, *largest, chunks_end, row));
  Format::ZeroProbabilities(row, chunks_end, padded);
}

// state[row] += probabilities . values, for one tile of values.
template <class Format>
void WeighTile(const QueryTile& tile, const RangePart& part, const PositionTile& at,
               const AttentionScratch& scratch, float* state) {
  using Op = typename Format::ValueOp;
  const size_t stride = StateStride(tile.head_dim);
  Format::PackValues(tile, at, scratch.unpacked);
  const auto steps = static_cast<uint32_t>((at.valid + Op::kKPerStep - 1) / Op::kKPerStep);
  for (uint32_t dim = 0; dim < tile.head_dim; dim += kPanelDims) {
    ForEachRowTile<Op>(tile, part, at.first, [&](uint32_t row, uint32_t count) {
      Tile<Op>(count, {.a = reinterpret_cast<const typename Op::A*>(scratch.scores +
                                                                    row * kScoreRowBytes) +
                            (at.first - part.range_start) / Op::kKPerStep,
                       .b = reinterpret_cast<const typename Op::B*>(scratch.unpacked) +
                            size_t{dim} * (Format::kTilePositions / Op::kKPerStep),
                       .c = state + row * stride + dim,
                       .c_stride = stride,
                       .steps = steps,
                       .cols = kPanelDims,
                       .accumulate = at.first > at.start});
    });
  }
}

// Calls fn(at) for each tile of the part.
template <class Format, class Fn>
void ForEachPositionTile(const RangePart& part, const Fn& fn) {
  for (uint32_t first = part.start; first < part.end; first += Format::kTilePositions) {
    fn(PositionTile{first, Min(Format::kTilePositions, part.end - first), part.start, part.end});
  }
}

template <class Format>
RangePart PartOf(const QueryTile& tile, uint32_t range) {
  const uint32_t range_start = range * kRangePositions;
  const uint32_t first_row = tile.FirstRow(range);
  const uint32_t first_seen = tile.FirstSeen(tile.PositionOf(first_row));
  return {.first_row = first_row,
          .end_row = tile.EndRow(range),
          .range_start = range_start,
          .start = first_seen > range_start
                       ? first_seen / Format::kTilePositions * Format::kTilePositions
                       : range_start,
          .end = Min(range_start + kRangePositions, tile.end_position())};
}

template <class Format>
void AttendRange(const QueryTile& tile, uint32_t range, const AttentionScratch& scratch,
                 float* state) {
  const RangePart part = PartOf<Format>(tile, range);
  ForEachPositionTile<Format>(
      part, [&](const PositionTile& at) { ScoreTile<Format>(tile, part, at, scratch); });
  const uint32_t padded = RoundUp(part.end - part.range_start, Format::kTilePositions);
  float* const sums = state + PaddedDim(tile.head_dim);
  for (uint32_t row = part.first_row; row < part.end_row; ++row) {
    const uint32_t position = tile.PositionOf(row);
    const uint32_t first_seen = tile.FirstSeen(position);
    float* const row_sums = sums + row * StateStride(tile.head_dim);
    SoftmaxRow<Format>(scratch.scores + row * kScoreRowBytes,
                       first_seen > part.range_start ? first_seen - part.range_start : 0,
                       Min(part.end, position + 1) - part.range_start, padded, tile.scale,
                       &row_sums[0], &row_sums[1]);
  }
  ForEachPositionTile<Format>(
      part, [&](const PositionTile& at) { WeighTile<Format>(tile, part, at, scratch, state); });
}

inline void MergeStates(float* state, const float* partial, uint32_t first_row, uint32_t end_row,
                        uint32_t head_dim) {
  const uint32_t padded_dim = PaddedDim(head_dim);
  for (uint32_t row = first_row; row < end_row; ++row) {
    float* const a = state + row * StateStride(head_dim);
    const float* const b = partial + row * StateStride(head_dim);
    const float largest_a = a[padded_dim];
    const float largest_b = b[padded_dim];
    const float largest = largest_a > largest_b ? largest_a : largest_b;
    const Vec::Float weight_a = Exp(Vec::Set1(largest_a - largest));
    const Vec::Float weight_b = Exp(Vec::Set1(largest_b - largest));
    // The last vector holds the largest score and the sum, and takes part as one more.
    for (uint32_t i = 0; i < StateStride(head_dim); i += Vec::kWidth) {
      const Vec::Float scaled = Vec::Mul(Vec::Load(a + i), weight_a);
      Vec::Store(a + i, Vec::Fma(Vec::Load(b + i), weight_b, scaled));
    }
    a[padded_dim] = largest;
  }
}

inline void FinishRow(const float* state, uint32_t head_dim, float v_scale, float* out) {
  const float factor = v_scale / state[PaddedDim(head_dim) + 1];
  for (uint32_t i = 0; i < head_dim; ++i) out[i] = state[i] * factor;
}

}  // namespace
}  // namespace kvs::cpu
