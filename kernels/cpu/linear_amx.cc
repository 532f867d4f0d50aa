#include "cpu/vec_avx512.h"
// Vec comes before what is written over it.
#include <algorithm>

#include "cpu/bf16_avx512.inl"
#include "cpu/kernel_table.h"
#include "cpu/linear.inl"

// bf16 weights on the matrix unit: tdpbf16ps multiplies up to 16 rows of x with 16 columns of a
// panel over 32 inputs. A panel holds pairs of inputs side by side, which is what it reads. Like
// the tiles of tile.inl, one accumulator an element and k ascending, so that a row's bits depend
// neither on the rows beside it nor on where k is cut. Subnormal inputs and results count as zero.
//
// Tiles: 0 to 3 are C, two of rows by two of columns; 4 and 5 rows of x; 6 and 7 columns of a
// panel.
namespace kvs::cpu {
namespace {

constexpr uint32_t kTileRows = 16;   // and its columns
constexpr uint32_t kTilePairs = 16;  // of inputs
constexpr uint32_t kTileK = 2 * kTilePairs;
constexpr uint32_t kGroupRows = 2 * kTileRows;
constexpr size_t kPanelRowBytes =
    kPanelCols * sizeof(uint32_t);  // a pair of inputs for each column
static_assert(kPanelCols == 2 * kTileRows);
constexpr size_t kCacheLine = 64;

// What ldtilecfg reads.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  void Set(uint32_t tile, uint32_t num_rows, uint32_t num_bytes) {
    rows[tile] = static_cast<uint8_t>(num_rows);
    row_bytes[tile] = static_cast<uint16_t>(num_bytes);
  }
};

// For `rows` <= kGroupRows rows of x and `pairs` <= kTilePairs pairs of inputs a step.
void Configure(uint32_t rows, uint32_t pairs) {
  constexpr uint32_t kRowBytesOfC = kTileRows * sizeof(float);
  const uint32_t first = std::min(rows, kTileRows);
  const uint32_t second = rows - first;
  TileConfig config;
  for (const uint32_t tile : {0u, 1u}) config.Set(tile, first, kRowBytesOfC);
  config.Set(4, first, pairs * 4);
  for (const uint32_t tile : {6u, 7u}) config.Set(tile, pairs, kTileRows * 4);
  if (second > 0) {
    for (const uint32_t tile : {2u, 3u}) config.Set(tile, second, kRowBytesOfC);
    config.Set(5, second, pairs * 4);
  }
  _tile_loadconfig(&config);
}

// C[rows][kPanelCols], c_stride floats from row to row, of `steps` steps.
struct Group {
  const uint8_t* x;
  const uint8_t* panel;
  float* c;
  size_t c_stride;
  uint32_t steps;
  bool accumulate;
  // Asked for while the steps run, so many bytes a step.
  const uint8_t* ahead;
  size_t ahead_bytes;
};

template <bool has_second>
void Multiply(const Group& group) {
  const size_t c_bytes = group.c_stride * sizeof(float);
  float* const low = group.c;
  float* const high = group.c + kTileRows * group.c_stride;
  if (group.accumulate) {
    _tile_loadd(0, low, c_bytes);
    _tile_loadd(1, low + kTileRows, c_bytes);
    if constexpr (has_second) {
      _tile_loadd(2, high, c_bytes);
      _tile_loadd(3, high + kTileRows, c_bytes);
    }
  } else {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (has_second) {
      _tile_zero(2);
      _tile_zero(3);
    }
  }
  const uint8_t* x = group.x;
  const uint8_t* panel = group.panel;
  const uint8_t* ahead = group.ahead;
  for (uint32_t step = 0; step < group.steps; ++step) {
    for (size_t i = 0; i < group.ahead_bytes; i += kCacheLine) {
      __builtin_prefetch(ahead + i, 0, has_second ? 2 : 3);
    }
    ahead += group.ahead_bytes;
    _tile_loadd(6, panel, kPanelRowBytes);
    _tile_loadd(7, panel + kPanelRowBytes / 2, kPanelRowBytes);
    _tile_loadd(4, x, kXRowBytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (has_second) {
      _tile_loadd(5, x + kTileRows * kXRowBytes, kXRowBytes);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    x += kTileK * sizeof(uint16_t);
    panel += kTilePairs * kPanelRowBytes;
  }
  _tile_stored(0, low, c_bytes);
  _tile_stored(1, low + kTileRows, c_bytes);
  if constexpr (has_second) {
    _tile_stored(2, high, c_bytes);
    _tile_stored(3, high + kTileRows, c_bytes);
  }
}

// Tiles are as wide as a panel: where the matrix ends before, they work on a copy of C.
void MultiplyNarrow(const Group& group, uint32_t rows, uint32_t cols) {
  float copy[kGroupRows][kPanelCols];
  for (uint32_t row = 0; group.accumulate && row < rows; ++row) {
    std::copy_n(group.c + row * group.c_stride, cols, copy[row]);
    std::fill(copy[row] + cols, copy[row] + kPanelCols, 0.0f);
  }
  Group on_copy = group;
  on_copy.c = copy[0];
  on_copy.c_stride = kPanelCols;
  rows > kTileRows ? Multiply<true>(on_copy) : Multiply<false>(on_copy);
  for (uint32_t row = 0; row < rows; ++row) {
    std::copy_n(copy[row], cols, group.c + row * group.c_stride);
  }
}

// Panels come from memory, of which a tile's load alone asks for too few lines at a time. A group
// of few rows has nothing to do but wait for its own, some steps ahead; larger ones share out the
// panel that follows.
void ChooseAhead(const LinearBlock& block, uint32_t rows, Group& group) {
  constexpr size_t kStepBytes = kTilePairs * kPanelRowBytes;
  constexpr size_t kStepsAhead = 4;
  group.ahead_bytes = 0;
  if (block.rows <= kTileRows) {
    group.ahead = group.panel + kStepsAhead * kStepBytes;
    group.ahead_bytes = kStepBytes;
  } else if (block.next != nullptr && rows == kGroupRows) {
    const uint32_t num_groups = block.rows / kGroupRows;
    const size_t offset = static_cast<size_t>(group.panel - block.panel);
    const size_t share = (kStepBytes / num_groups + kCacheLine - 1) / kCacheLine * kCacheLine;
    const auto index = static_cast<size_t>(group.x - block.x) / kXRowBytes / kGroupRows;
    group.ahead = block.next + offset + index * share * group.steps;
    group.ahead_bytes = share;
  }
}

// Inputs [k, k + steps * 2 * pairs) of a block.
void RunSteps(const LinearBlock& block, uint32_t k, uint32_t steps, uint32_t pairs) {
  uint32_t configured = 0;
  for (uint32_t row = 0; row < block.rows; row += kGroupRows) {
    const uint32_t rows = std::min(kGroupRows, block.rows - row);
    if (rows != configured) Configure(rows, pairs);
    configured = rows;
    Group group{.x = block.x + row * kXRowBytes + k * sizeof(uint16_t),
                .panel = block.panel + k / 2 * kPanelRowBytes,
                .c = block.out + row * block.out_stride,
                .c_stride = block.out_stride,
                .steps = steps,
                .accumulate = block.accumulate || k > 0,
                .ahead = nullptr,
                .ahead_bytes = 0};
    ChooseAhead(block, rows, group);
    if (block.cols < kPanelCols) {
      MultiplyNarrow(group, rows, block.cols);
    } else if (rows > kTileRows) {
      Multiply<true>(group);
    } else {
      Multiply<false>(group);
    }
  }
}

void RunBlockAmx(const LinearBlock& block) {
  const uint32_t whole = block.k / kTileK * kTileK;
  if (whole > 0) RunSteps(block, 0, whole / kTileK, kTilePairs);
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
