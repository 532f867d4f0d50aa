#include "cpu/packed_weight.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "cpu/memory.h"
#include "kvserve/check.h"
#include "kvserve/float_bits.h"

namespace kvs::cpu {
namespace {

float LoadElement(const HostMatrix& matrix, size_t index) {
  switch (matrix.dtype) {
    case DType::kBf16:
      return Bf16ToFloat(static_cast<const uint16_t*>(matrix.data)[index]);
    case DType::kF16:
      return F16ToFloat(static_cast<const uint16_t*>(matrix.data)[index]);
    case DType::kF32:
      return static_cast<const float*>(matrix.data)[index];
  }
  return 0.0f;
}

uint16_t Encode16(float value, DType dtype) {
  return dtype == DType::kBf16 ? FloatToBf16(value) : FloatToF16(value);
}

// Puts one row of a part into column `col` of a panel.
void PackRow(const HostMatrix& part, uint32_t row, DType dtype, uint32_t col, uint8_t* panel) {
  const size_t first = size_t{row} * part.cols;
  if (dtype == DType::kF32) {
    auto* to = reinterpret_cast<float*>(panel) + col;
    for (uint32_t k = 0; k < part.cols; ++k)
      to[size_t{k} * kPanelCols] = LoadElement(part, first + k);
    return;
  }
  auto* to = reinterpret_cast<uint16_t*>(panel);
  const bool paired = dtype == DType::kBf16;
  const auto index = [&](uint32_t k) {
    return paired ? (size_t{k / 2} * kPanelCols + col) * 2 + k % 2 : size_t{k} * kPanelCols + col;
  };
  if (part.dtype == dtype) {
    const auto* from = static_cast<const uint16_t*>(part.data) + first;
    for (uint32_t k = 0; k < part.cols; ++k) to[index(k)] = from[k];
  } else {
    for (uint32_t k = 0; k < part.cols; ++k) {
      to[index(k)] = Encode16(LoadElement(part, first + k), dtype);
    }
  }
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
  auto panels = AllocatePages(weight->panel_bytes() * weight->num_panels(), "weights");
  if (!panels) return tl::unexpected<Status>(std::move(panels).error());
  weight->panels = std::move(*panels);

  pool.ParallelFor(weight->num_panels(), [&](uint32_t panel, uint32_t) {
    auto* to = weight->panels.as<uint8_t>() + panel * weight->panel_bytes();
    const uint32_t first = panel * kPanelCols;
    const uint32_t last = std::min(first + kPanelCols, weight->out_features);
    uint32_t part_start = 0;
    for (const HostMatrix& part : parts) {
      const uint32_t begin = std::max(first, part_start);
      const uint32_t end = std::min(last, part_start + part.rows);
      for (uint32_t row = begin; row < end; ++row) {
        PackRow(part, row - part_start, dtype, row - first, to);
      }
      part_start += part.rows;
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
  }
}

}  // namespace kvs::cpu
