#include "cpu/packed_weight.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <utility>

#include "cpu/memory.h"
#include "kvserve/check.h"
#include "kvserve/float_bits.h"

namespace kvs::cpu {
namespace {

float ToFloat(float value, DType) { return value; }
float ToFloat(uint16_t code, DType dtype) {
  return dtype == DType::kBf16 ? Bf16ToFloat(code) : F16ToFloat(code);
}

// `count` numbers of one type as those of another.
template <class From>
void Convert(const From* from, DType from_dtype, uint32_t count, DType dtype, void* to) {
  auto* floats = static_cast<float*>(to);
  auto* codes = static_cast<uint16_t*>(to);
  switch (dtype) {
    case DType::kF32:
      for (uint32_t i = 0; i < count; ++i) floats[i] = ToFloat(from[i], from_dtype);
      return;
    case DType::kBf16:
      for (uint32_t i = 0; i < count; ++i) codes[i] = FloatToBf16(ToFloat(from[i], from_dtype));
      return;
    case DType::kF16:
      for (uint32_t i = 0; i < count; ++i) codes[i] = FloatToF16(ToFloat(from[i], from_dtype));
      return;
    case DType::kF8E4M3:  // Backend::WhyNoFp8 keeps it away
      return;
  }
}

// Where an output feature's weights are; no part: padding.
struct SourceRow {
  const HostMatrix* part = nullptr;
  uint32_t row = 0;
};
using PanelRows = std::array<SourceRow, kPanelCols>;

PanelRows RowsOf(std::span<const HostMatrix> parts, uint32_t first) {
  PanelRows rows;
  uint32_t start = 0;
  for (const HostMatrix& part : parts) {
    const uint32_t begin = std::max(first, start);
    const uint32_t end = std::min(first + kPanelCols, start + part.rows);
    for (uint32_t row = begin; row < end; ++row) rows[row - first] = {&part, row - start};
    start += part.rows;
  }
  return rows;
}

// Elements [k, k + count) of a row, as `dtype`.
void StageRow(const SourceRow& source, uint32_t k, uint32_t count, DType dtype, void* to) {
  if (source.part == nullptr) return;  // it stays zero
  const HostMatrix& part = *source.part;
  const size_t first = size_t{source.row} * part.cols + k;
  if (part.dtype == dtype) {
    const size_t bytes = SizeOf(dtype);
    std::memcpy(to, static_cast<const uint8_t*>(part.data) + first * bytes, count * bytes);
  } else if (part.dtype == DType::kF32) {
    Convert(static_cast<const float*>(part.data) + first, part.dtype, count, dtype, to);
  } else {
    Convert(static_cast<const uint16_t*>(part.data) + first, part.dtype, count, dtype, to);
  }
}

// A panel is made in blocks of so many units of every row: they stay in the nearest cache, while
// rows a power of two apart would drive each other out of it. A unit is what stays together: two
// bf16, one f16, one f32.
constexpr uint32_t kBlockUnits = 16;

template <class Unit>
using Block = Unit[kPanelCols][kBlockUnits];

template <class Unit>
void Interleave(const Block<Unit>& block, uint32_t units, Unit* to) {
  for (uint32_t unit = 0; unit < units; ++unit) {
    for (uint32_t row = 0; row < kPanelCols; ++row) to[unit * kPanelCols + row] = block[row][unit];
  }
}

// The same for whole blocks of 32-bit units, four by four.
void InterleaveAll(const Block<uint32_t>& block, uint32_t* to) {
  using Four = uint32_t __attribute__((vector_size(16)));
  for (uint32_t unit = 0; unit < kBlockUnits; unit += 4) {
    for (uint32_t row = 0; row < kPanelCols; row += 4) {
      Four in[4];
      for (uint32_t i = 0; i < 4; ++i) std::memcpy(&in[i], &block[row + i][unit], sizeof(Four));
      const Four low_a = __builtin_shufflevector(in[0], in[1], 0, 4, 1, 5);
      const Four low_b = __builtin_shufflevector(in[2], in[3], 0, 4, 1, 5);
      const Four high_a = __builtin_shufflevector(in[0], in[1], 2, 6, 3, 7);
      const Four high_b = __builtin_shufflevector(in[2], in[3], 2, 6, 3, 7);
      const Four out[4] = {__builtin_shufflevector(low_a, low_b, 0, 1, 4, 5),
                           __builtin_shufflevector(low_a, low_b, 2, 3, 6, 7),
                           __builtin_shufflevector(high_a, high_b, 0, 1, 4, 5),
                           __builtin_shufflevector(high_a, high_b, 2, 3, 6, 7)};
      for (uint32_t i = 0; i < 4; ++i) {
        std::memcpy(to + (unit + i) * kPanelCols + row, &out[i], sizeof(Four));
      }
    }
  }
}
void InterleaveAll(const Block<uint16_t>& block, uint16_t* to) {
  Interleave<uint16_t>(block, kBlockUnits, to);
}

template <class Unit>
void PackPanel(const PanelRows& rows, uint32_t cols, DType dtype, Unit* panel) {
  const auto per_unit = static_cast<uint32_t>(sizeof(Unit) / SizeOf(dtype));
  const uint32_t block_cols = kBlockUnits * per_unit;
  Block<Unit> block = {};
  uint32_t k = 0;
  for (; k + block_cols <= cols; k += block_cols, panel += kBlockUnits * kPanelCols) {
    for (uint32_t row = 0; row < kPanelCols; ++row) {
      StageRow(rows[row], k, block_cols, dtype, block[row]);
    }
    InterleaveAll(block, panel);
  }
  if (k == cols) return;
  std::memset(block, 0, sizeof(block));
  for (uint32_t row = 0; row < kPanelCols; ++row) {
    StageRow(rows[row], k, cols - k, dtype, block[row]);
  }
  Interleave<Unit>(block, (cols - k + per_unit - 1) / per_unit, panel);
}

}  // namespace

Result<std::unique_ptr<PackedWeight>> PackWeight(std::span<const HostMatrix> parts, DType dtype,
                                                 ThreadPool& pool) {
  if (parts.empty()) return Error(Code::kInvalidArgument, "a weight needs at least one matrix");
  uint64_t rows = 0;
  for (const HostMatrix& part : parts) {
    if (part.cols != parts[0].cols || part.cols == 0 || part.rows == 0) {
      return Error(Code::kInvalidArgument,
                   "stacked matrices must have equal columns and no empty side, got " +
                       std::to_string(part.rows) + " x " + std::to_string(part.cols) + " beside " +
                       std::to_string(parts[0].rows) + " x " + std::to_string(parts[0].cols));
    }
    rows += part.rows;
  }
  if (rows > UINT32_MAX - kPanelCols) {
    return Error(Code::kInvalidArgument,
                 "a weight of " + std::to_string(rows) + " rows is too large");
  }
  auto weight = std::make_unique<PackedWeight>();
  weight->out_features = static_cast<uint32_t>(rows);
  weight->in_features = parts[0].cols;
  weight->dtype = dtype;
  auto panels =
      AllocatePages(weight->panel_bytes() * weight->num_panels(), "weights", Pages::kOnUse);
  if (!panels) return tl::unexpected<Status>(std::move(panels).error());
  weight->panels = std::move(*panels);

  pool.ParallelFor(weight->num_panels(), [&](uint32_t panel, uint32_t) {
    auto* to = weight->panels.as<uint8_t>() + panel * weight->panel_bytes();
    const PanelRows sources = RowsOf(parts, panel * kPanelCols);
    if (dtype == DType::kF16) {
      PackPanel(sources, weight->in_features, dtype, reinterpret_cast<uint16_t*>(to));
    } else {
      PackPanel(sources, weight->in_features, dtype, reinterpret_cast<uint32_t*>(to));
    }
  });
  return weight;
}

void UnpackRow(const PackedWeight& weight, uint32_t row, float* out) {
  KVS_CHECK_OP(row, <, weight.out_features);
  const uint8_t* panel = weight.panel(row / kPanelCols);
  const uint32_t col = row % kPanelCols;
  switch (weight.dtype) {
    case DType::kBf16: {
      const auto* from = reinterpret_cast<const uint16_t*>(panel) + size_t{col} * 2;
      for (uint32_t k = 0; k < weight.in_features; ++k) {
        out[k] = Bf16ToFloat(from[size_t{k / 2} * kPanelCols * 2 + k % 2]);
      }
      return;
    }
    case DType::kF16: {
      const auto* from = reinterpret_cast<const uint16_t*>(panel) + col;
      for (uint32_t k = 0; k < weight.in_features; ++k) {
        out[k] = F16ToFloat(from[size_t{k} * kPanelCols]);
      }
      return;
    }
    case DType::kF32: {
      const auto* from = reinterpret_cast<const float*>(panel) + col;
      for (uint32_t k = 0; k < weight.in_features; ++k) out[k] = from[size_t{k} * kPanelCols];
      return;
    }
    case DType::kF8E4M3:
      return;
  }
}

}  // namespace kvs::cpu
