#include "cpu/linear.h"

#include <algorithm>

#include "kvserve/check.h"

namespace kvs::cpu {
namespace {

constexpr uint32_t kRowsPerTask = 192;  // 192 packed rows of one k-block are 0.4 MB of L2
constexpr uint32_t kMaxPanelsPerTask = 8;
constexpr uint32_t kSmallestBlockK = 512;

constexpr uint32_t DivUp(uint32_t a, uint32_t b) { return (a + b - 1) / b; }

struct Shape {
  const PackedWeight& weight;
  const LinearKernel& kernel;
  uint32_t num_rows;

  uint32_t num_blocks() const { return DivUp(weight.in_features, kernel.block_k); }
  uint32_t BlockLen(uint32_t block) const {
    return std::min(kernel.block_k, weight.in_features - block * kernel.block_k);
  }
  size_t XOffset(uint32_t block, uint32_t row) const {
    return (size_t{block} * num_rows + row) * kXRowBytes;
  }
};

void PackX(const Shape& shape, const float* x, uint8_t* scratch, ThreadPool& pool) {
  constexpr uint32_t kRowsPerPackTask = 8;
  pool.ParallelFor(DivUp(shape.num_rows, kRowsPerPackTask), [&](uint32_t task, uint32_t) {
    const uint32_t first = task * kRowsPerPackTask;
    const uint32_t last = std::min(first + kRowsPerPackTask, shape.num_rows);
    for (uint32_t row = first; row < last; ++row) {
      const float* from = x + size_t{row} * shape.weight.in_features;
      for (uint32_t block = 0; block < shape.num_blocks(); ++block) {
        shape.kernel.pack_x(from + size_t{block} * shape.kernel.block_k, shape.BlockLen(block),
                            scratch + shape.XOffset(block, row));
      }
    }
  });
}

// Rows [first_row, last_row) of panels [first_panel, last_panel).
struct Region {
  uint32_t first_row, last_row, first_panel, last_panel;
};

void RunRegion(const Shape& shape, const Region& region, const uint8_t* scratch, float* out) {
  const PackedWeight& weight = shape.weight;
  for (uint32_t block = 0; block < shape.num_blocks(); ++block) {
    const size_t panel_offset =
        size_t{block} * shape.kernel.block_k * kPanelCols * SizeOf(weight.dtype);
    for (uint32_t panel = region.first_panel; panel < region.last_panel; ++panel) {
      const bool is_last = panel + 1 == region.last_panel;
      const uint32_t first_col = panel * kPanelCols;
      shape.kernel.run({
          .x = scratch + shape.XOffset(block, region.first_row),
          .panel = weight.panel(panel) + panel_offset,
          .next = is_last ? nullptr : weight.panel(panel + 1) + panel_offset,
          .out = out + size_t{region.first_row} * weight.out_features + first_col,
          .out_stride = weight.out_features,
          .rows = region.last_row - region.first_row,
          .cols = std::min(kPanelCols, weight.out_features - first_col),
          .k = shape.BlockLen(block),
          .accumulate = block > 0,
      });
    }
  }
}

void RunRows(const Shape& shape, const float* x, float* out, uint8_t* scratch, ThreadPool& pool) {
  PackX(shape, x, scratch, pool);
  const uint32_t num_panels = shape.weight.num_panels();
  // Enough tasks that threads finish together, even where another process takes a core for a while.
  const uint32_t panels_per_task =
      std::clamp(num_panels / (pool.num_threads() * 8), 1u, kMaxPanelsPerTask);
  const uint32_t panel_groups = DivUp(num_panels, panels_per_task);
  const uint32_t row_groups = DivUp(shape.num_rows, kRowsPerTask);
  // Row groups of one panel group follow each other: the panels are then in the L3 cache.
  pool.ParallelFor(panel_groups * row_groups, [&](uint32_t task, uint32_t) {
    const uint32_t first_row = task % row_groups * kRowsPerTask;
    const uint32_t first_panel = task / row_groups * panels_per_task;
    RunRegion(shape,
              {first_row, std::min(first_row + kRowsPerTask, shape.num_rows), first_panel,
               std::min(first_panel + panels_per_task, num_panels)},
              scratch, out);
  });
}

}  // namespace

size_t LinearOp::ScratchBytes(uint32_t max_rows, uint32_t max_in) {
  return size_t{std::min(max_rows, kXMaxRows)} * DivUp(max_in, kSmallestBlockK) * kXRowBytes;
}

void LinearOp::Run(const LinearParams& params, uint8_t* scratch, size_t scratch_bytes,
                   ThreadPool& pool) const {
  const auto& weight = static_cast<const PackedWeight&>(*params.weight);
  const LinearKernel& kernel = weight.dtype == DType::kBf16  ? kernels_.bf16
                               : weight.dtype == DType::kF16 ? kernels_.f16
                                                             : kernels_.f32;
  KVS_CHECK_OP(kernel.block_k, >=, kSmallestBlockK);
  for (uint32_t row = 0; row < params.num_rows; row += kXMaxRows) {
    const Shape shape{weight, kernel, std::min(kXMaxRows, params.num_rows - row)};
    KVS_CHECK_OP(shape.XOffset(shape.num_blocks(), 0), <=, scratch_bytes);
    RunRows(shape, static_cast<const float*>(params.x) + size_t{row} * weight.in_features,
            static_cast<float*>(params.out) + size_t{row} * weight.out_features, scratch, pool);
  }
}

}  // namespace kvs::cpu
