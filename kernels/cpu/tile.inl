#pragma once

// The register tile under Linear and PagedAttention: C[rows][cols] (+)= A[rows][k] * B[k][cols],
// k ascending, one accumulator per element. Every tile shape runs the same operations on an
// element, so that its bits do not depend on how rows and columns were tiled, nor on where k was
// cut: a cut stores the float32 accumulators in C and reloads them.
//
// An Op names the operand formats, kAStride (elements of A from one row to the next), kBStride
// (elements of B from one step to the next), kAStep (elements of A per step), kKPerStep,
// the step itself and, as Ahead, what to prefetch meanwhile.

#include <cstddef>
#include <cstdint>
#include <utility>

namespace kvs::cpu {
namespace {

inline constexpr uint32_t kMaxStreams = 8;

template <class Op>
struct TileArgs {
  const typename Op::A* a;  // [rows][Op::kAStride]
  const typename Op::B* b;  // [steps][Op::kBStride]
  float* c;                 // [rows][c_stride]
  size_t c_stride;
  uint32_t steps;
  uint32_t cols;    // columns of C to write; B has Op::kBStride of them, zeros past the matrix
  bool accumulate;  // continue the sums in C; else start from zero
  // Memory that will be read soon, brought to the L2 cache step by step, as Op::Ahead has it.
  const uint8_t* ahead[kMaxStreams] = {};
  size_t ahead_stride = 0;
};

struct NothingAhead {
  template <uint32_t kVecs, class Op>
  static void Prefetch(const TileArgs<Op>&, uint32_t, uint32_t) {}
};

// kStreams streams, ahead_stride bytes a step.
template <uint32_t kStreams>
struct StreamsAhead {
  template <uint32_t kVecs, class Op>
  static void Prefetch(const TileArgs<Op>& args, uint32_t step, uint32_t) {
    for (uint32_t i = 0; i < kStreams; ++i) {
      __builtin_prefetch(args.ahead[i] + step * args.ahead_stride, 0, 2);
    }
  }
};

// What this step reads of B, of another B that starts at ahead[0].
struct PanelAhead {
  template <uint32_t kVecs, class Op>
  static void Prefetch(const TileArgs<Op>& args, uint32_t step, uint32_t first_col) {
    using B = typename Op::B;
    const uint8_t* from = args.ahead[0] + (step * Op::kBStride + first_col) * sizeof(B);
    for (size_t byte = 0; byte < kVecs * Vec::kWidth * sizeof(B); byte += 64) {
      __builtin_prefetch(from + byte, 0, 2);
    }
  }
};

// A float, B float [k][cols].
template <size_t a_stride, size_t b_stride, class AheadOf = NothingAhead>
struct OpF32 {
  using A = float;
  using B = float;
  static constexpr size_t kAStride = a_stride;
  static constexpr size_t kBStride = b_stride;
  static constexpr size_t kAStep = 1;
  static constexpr size_t kKPerStep = 1;
  using Ahead = AheadOf;

  template <uint32_t kRows, uint32_t kVecs>
  static void Step(const A* a, const B* b, Vec::Float (&acc)[kRows][kVecs]) {
    Vec::Float columns[kVecs];
    for (uint32_t v = 0; v < kVecs; ++v) columns[v] = Vec::Load(b + v * Vec::kWidth);
    for (uint32_t r = 0; r < kRows; ++r) {
      const Vec::Float x = Vec::Set1(a[r * kAStride]);
      for (uint32_t v = 0; v < kVecs; ++v) acc[r][v] = Vec::Fma(x, columns[v], acc[r][v]);
    }
  }
};

// A float, B half [k][cols].
template <size_t a_stride, size_t b_stride>
struct OpF16 {
  using A = float;
  using B = uint16_t;
  static constexpr size_t kAStride = a_stride;
  static constexpr size_t kBStride = b_stride;
  static constexpr size_t kAStep = 1;
  static constexpr size_t kKPerStep = 1;
  using Ahead = NothingAhead;

  template <uint32_t kRows, uint32_t kVecs>
  static void Step(const A* a, const B* b, Vec::Float (&acc)[kRows][kVecs]) {
    Vec::Float columns[kVecs];
    for (uint32_t v = 0; v < kVecs; ++v) columns[v] = Vec::LoadF16(b + v * Vec::kWidth);
    for (uint32_t r = 0; r < kRows; ++r) {
      const Vec::Float x = Vec::Set1(a[r * kAStride]);
      for (uint32_t v = 0; v < kVecs; ++v) acc[r][v] = Vec::Fma(x, columns[v], acc[r][v]);
    }
  }
};

// A float, B pairs of bf16 [k / 2][cols]; a step is two k.
template <size_t a_stride, size_t b_stride>
struct OpBf16Pairs {
  using A = float;
  using B = uint32_t;
  static constexpr size_t kAStride = a_stride;
  static constexpr size_t kBStride = b_stride;
  static constexpr size_t kAStep = 2;
  static constexpr size_t kKPerStep = 2;
  using Ahead = PanelAhead;

  template <uint32_t kRows, uint32_t kVecs>
  static void Step(const A* a, const B* b, Vec::Float (&acc)[kRows][kVecs]) {
    // One half after the other: the columns of both would leave too few registers for the sums.
    Vec::Float columns[kVecs];
    for (uint32_t v = 0; v < kVecs; ++v) columns[v] = Vec::LoadBf16Lower(b + v * Vec::kWidth);
    for (uint32_t r = 0; r < kRows; ++r) {
      const Vec::Float x = Vec::Set1(a[r * kAStride]);
      for (uint32_t v = 0; v < kVecs; ++v) acc[r][v] = Vec::Fma(x, columns[v], acc[r][v]);
    }
    for (uint32_t v = 0; v < kVecs; ++v) columns[v] = Vec::LoadBf16Upper(b + v * Vec::kWidth);
    for (uint32_t r = 0; r < kRows; ++r) {
      const Vec::Float x = Vec::Set1(a[r * kAStride + 1]);
      for (uint32_t v = 0; v < kVecs; ++v) acc[r][v] = Vec::Fma(x, columns[v], acc[r][v]);
    }
  }
};

template <class Op, uint32_t kRows, uint32_t kVecs>
void TileColumns(const TileArgs<Op>& args, uint32_t first_col) {
  constexpr uint32_t kCols = kVecs * Vec::kWidth;
  const bool whole = first_col + kCols <= args.cols;
  const auto lanes = [&](uint32_t v) {
    const uint32_t col = first_col + v * Vec::kWidth;
    const uint32_t left = args.cols > col ? args.cols - col : 0;
    return left < Vec::kWidth ? left : Vec::kWidth;
  };
  float* const c = args.c + first_col;
  Vec::Float acc[kRows][kVecs];
#pragma GCC unroll 16
  for (uint32_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (uint32_t v = 0; v < kVecs; ++v) {
      const float* from = c + r * args.c_stride + v * Vec::kWidth;
      acc[r][v] = !args.accumulate ? Vec::Zero()
                  : whole          ? Vec::Load(from)
                                   : Vec::LoadN(from, lanes(v));
    }
  }
  const auto* a = args.a;
  const auto* b = args.b + first_col;
  for (uint32_t s = 0; s < args.steps; ++s) {
    Op::Ahead::template Prefetch<kVecs>(args, s, first_col);
    Op::template Step<kRows, kVecs>(a, b, acc);
    a += Op::kAStep;
    b += Op::kBStride;
  }
#pragma GCC unroll 16
  for (uint32_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (uint32_t v = 0; v < kVecs; ++v) {
      float* to = c + r * args.c_stride + v * Vec::kWidth;
      if (whole) {
        Vec::Store(to, acc[r][v]);
      } else {
        Vec::StoreN(to, acc[r][v], lanes(v));
      }
    }
  }
}

// The widest column group whose accumulators fit the registers.
template <class Op>
constexpr uint32_t VecsFor(uint32_t rows) {
  uint32_t vecs = 1;
  while (vecs * 2 * rows <= Vec::kTileRows * Vec::kTileVecs &&
         vecs * 2 * Vec::kWidth <= Op::kBStride) {
    vecs *= 2;
  }
  return vecs;
}

template <class Op, uint32_t kRows>
void TileRows(const TileArgs<Op>& args) {
  constexpr uint32_t kVecs = VecsFor<Op>(kRows);
  for (uint32_t col = 0; col < args.cols; col += kVecs * Vec::kWidth) {
    TileColumns<Op, kRows, kVecs>(args, col);
  }
}

template <class Op>
struct TileTable {
  using Fn = void (*)(const TileArgs<Op>&);
  template <size_t... kIndex>
  constexpr explicit TileTable(std::index_sequence<kIndex...>)
      : by_rows{&TileRows<Op, kIndex + 1>...} {}
  Fn by_rows[Vec::kTileRows];
};

// Rows that one call of Tile takes.
template <class Op>
constexpr uint32_t MaxTileRows() {
  if constexpr (requires { Op::kMaxRows; }) {
    return Op::kMaxRows;
  } else {
    return Vec::kTileRows;
  }
}

// rows in [1, MaxTileRows<Op>()]. An Op with a RunTile of its own needs no step.
template <class Op>
void Tile(uint32_t rows, const TileArgs<Op>& args) {
  if constexpr (requires { Op::RunTile(rows, args); }) {
    Op::RunTile(rows, args);
  } else {
    static constexpr TileTable<Op> kTable{std::make_index_sequence<Vec::kTileRows>()};
    kTable.by_rows[rows - 1](args);
  }
}

}  // namespace
}  // namespace kvs::cpu
