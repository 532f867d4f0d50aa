#include "cpu/vec_avx512.h"
// Vec comes before what is written over it.
#include <algorithm>

#include "cpu/amx.inl"
#include "cpu/bf16_avx512.inl"
#include "cpu/kernel_table.h"
#include "cpu/linear.inl"

// bf16 weights on the matrix unit. A panel holds pairs of inputs side by side, which is what it
// reads.
namespace kvs::cpu {
namespace {

constexpr size_t kPanelRowBytes =
    kPanelCols * sizeof(uint32_t);  // a pair of inputs for each column
static_assert(kPanelCols == kAmxGroup);
constexpr size_t kCacheLine = 64;

// C[rows][kPanelCols], c_stride floats from row to row, of `steps` steps.
struct Group : AmxProduct {
  // Asked for while the steps run, so many bytes a step.
  const uint8_t* ahead;
  size_t ahead_bytes;
};

template <bool has_second>
void Multiply(const Group& group) {
  const uint8_t* next = group.ahead;
  AmxMultiply<has_second, kXRowBytes, kPanelRowBytes>(group, [&](uint32_t) {
    for (size_t i = 0; i < group.ahead_bytes; i += kCacheLine) {
      __builtin_prefetch(next + i, 0, has_second ? 2 : 3);
    }
    next += group.ahead_bytes;
  });
}

// Tiles are as wide as a panel: where the matrix ends before, they work on a copy of C.
void MultiplyNarrow(const Group& group, uint32_t rows, uint32_t cols) {
  float copy[kAmxGroup][kPanelCols];
  for (uint32_t row = 0; group.accumulate && row < rows; ++row) {
    std::copy_n(group.c + row * group.c_stride, cols, copy[row]);
    std::fill(copy[row] + cols, copy[row] + kPanelCols, 0.0f);
  }
  Group on_copy = group;
  on_copy.c = copy[0];
  on_copy.c_stride = kPanelCols;
  rows > kAmxTileRows ? Multiply<true>(on_copy) : Multiply<false>(on_copy);
  for (uint32_t row = 0; row < rows; ++row) {
    std::copy_n(copy[row], cols, group.c + row * group.c_stride);
  }
}

// Panels come from memory, of which a tile's load alone asks for too few lines at a time. A group
// of few rows has nothing to do but wait for its own, some steps ahead; larger ones share out the
// panel that follows.
void ChooseAhead(const LinearBlock& block, uint32_t rows, Group& group) {
  constexpr size_t kStepBytes = kAmxTilePairs * kPanelRowBytes;
  constexpr size_t kStepsAhead = 4;
  group.ahead_bytes = 0;
  if (block.rows <= kAmxTileRows) {
    group.ahead = group.b + kStepsAhead * kStepBytes;
    group.ahead_bytes = kStepBytes;
  } else if (block.next != nullptr && rows == kAmxGroup) {
    const uint32_t num_groups = block.rows / kAmxGroup;
    const size_t offset = static_cast<size_t>(group.b - block.panel);
    const size_t share = (kStepBytes / num_groups + kCacheLine - 1) / kCacheLine * kCacheLine;
    const auto index = static_cast<size_t>(group.a - block.x) / kXRowBytes / kAmxGroup;
    group.ahead = block.next + offset + index * share * group.steps;
    group.ahead_bytes = share;
  }
}

// Inputs [k, k + steps * 2 * pairs) of a block.
void RunSteps(const LinearBlock& block, uint32_t k, uint32_t steps, uint32_t pairs) {
  uint32_t configured = 0;
  for (uint32_t row = 0; row < block.rows; row += kAmxGroup) {
    const uint32_t rows = std::min(kAmxGroup, block.rows - row);
    if (rows != configured) AmxConfigure(rows, pairs);
    configured = rows;
    Group group{{.a = block.x + row * kXRowBytes + k * sizeof(uint16_t),
                 .b = block.panel + k / 2 * kPanelRowBytes,
                 .c = block.out + row * block.out_stride,
                 .c_stride = block.out_stride,
                 .steps = steps,
                 .accumulate = block.accumulate || k > 0},
                nullptr,
                0};
    ChooseAhead(block, rows, group);
    if (block.cols < kPanelCols) {
      MultiplyNarrow(group, rows, block.cols);
    } else if (rows > kAmxTileRows) {
      Multiply<true>(group);
    } else {
      Multiply<false>(group);
    }
  }
}

void RunBlockAmx(const LinearBlock& block) {
  const uint32_t whole = block.k / kAmxTileK * kAmxTileK;
  if (whole > 0) RunSteps(block, 0, whole / kAmxTileK, kAmxTilePairs);
  if (whole < block.k) RunSteps(block, whole, 1, (block.k - whole + 1) / 2);
  _tile_release();  // so that a change of threads need not save the tiles
}

}  // namespace

const LinearKernels kLinearAmx = {
    .bf16 = {kBlockKBf16, &PackXBf16, &RunBlockAmx},
    .f16 = kLinearKernelF16,
    .f32 = kLinearKernelF32,
};

}  // namespace kvs::cpu
