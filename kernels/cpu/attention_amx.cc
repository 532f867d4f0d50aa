#include "cpu/vec_avx512.h"
// Vec comes before what is written over it.
#include "cpu/amx.inl"
#include "cpu/attention_bf16.inl"
#include "cpu/kernel_table.h"

namespace kvs::cpu {
namespace {

// What this thread's tiles are configured for; nothing when both are 0.
struct Configured {
  uint32_t rows = 0;
  uint32_t pairs = 0;
  bool operator==(const Configured&) const = default;
};
thread_local Configured configured;

// As OpBf16Dot, of whole groups of columns.
template <size_t a_stride, size_t b_stride, class AheadOf>
struct OpBf16Amx {
  using A = uint32_t;
  using B = uint32_t;
  static constexpr size_t kAStride = a_stride;
  static constexpr size_t kBStride = b_stride;
  static constexpr size_t kKPerStep = 2;
  static constexpr uint32_t kMaxRows = kAmxGroup;
  static_assert(b_stride % (2 * kAmxGroup) == 0);

  static void RunTile(uint32_t rows, const TileArgs<OpBf16Amx>& args) {
    const uint32_t whole = args.steps / kAmxTilePairs;
    const uint32_t rest = args.steps % kAmxTilePairs;
    if (whole > 0) RunSteps(rows, args, 0, whole, kAmxTilePairs);
    if (rest > 0) RunSteps(rows, args, whole * kAmxTilePairs, 1, rest);
  }

 private:
  static constexpr size_t kABytes = a_stride * sizeof(A), kBBytes = b_stride * sizeof(B);

  // Tile steps of `pairs` pairs from pair `first` on.
  static void RunSteps(uint32_t rows, const TileArgs<OpBf16Amx>& args, uint32_t first,
                       uint32_t steps, uint32_t pairs) {
    if (configured != Configured{rows, pairs}) AmxConfigure(rows, pairs);
    configured = {rows, pairs};
    const uint32_t cols_at_once = rows > kAmxTileRows ? kAmxGroup : 2 * kAmxGroup;
    for (uint32_t col = 0; col < args.cols; col += cols_at_once) {
      const AmxProduct product = {
          .a = reinterpret_cast<const uint8_t*>(args.a + first),
          .b = reinterpret_cast<const uint8_t*>(args.b + first * b_stride + col),
          .c = args.c + col,
          .c_stride = args.c_stride,
          .steps = steps,
          .accumulate = args.accumulate || first > 0};
      const auto ahead = [&](uint32_t step) {
        if (col > 0 || args.ahead_stride == 0) return;
        for (uint32_t i = 0; i < kAmxTilePairs; ++i) {
          AheadOf::template Prefetch<1>(args, step * kAmxTilePairs + i, 0);
        }
      };
      if (rows > kAmxTileRows) {
        AmxMultiply<true, kABytes, kBBytes>(product, ahead);
      } else {
        AmxMultiplyWide<kABytes, kBBytes>(product, ahead);
      }
    }
  }
};

template <uint32_t positions>
struct AmxProducts {
  static constexpr uint32_t kTilePositions = positions;
  template <size_t a_stride, size_t b_stride, class Ahead>
  using Op = OpBf16Amx<a_stride, b_stride, Ahead>;
};

// Sums go through memory from one tile of positions to the next: for many rows, fewer and larger
// tiles. Few rows wait for memory, and small tiles leave more of the first cache to what is asked
// for ahead. A row's bits are the same, since both cut k between products.
using ManyRows = AmxProducts<128>;
using FewRows = AmxProducts<64>;

void AttendAmx(const QueryTile& tile, uint32_t range, const AttentionScratch& scratch,
               float* partial) {
  if (tile.num_rows() > kAmxTileRows) {
    AttendBf16<ManyRows>(tile, range, scratch, partial);
  } else {
    AttendBf16<FewRows>(tile, range, scratch, partial);
  }
  configured = {};
  _tile_release();  // so that a change of threads need not save the tiles
}

}  // namespace

const AttentionKernels kAttentionAmx = {
    .query_rows = kMaxQueryRows,
    .pack_queries = &PackQueriesBf16<ManyRows>,
    .attend = &AttendAmx,
    .merge = &MergeStates,
    .finish = &FinishRow,
};

}  // namespace kvs::cpu
