// Weights in the order in which the kernels stream them: panels of kPanelCols output features, each
// one contiguous run over in_features, padded with zeros.
//   bf16: [panel][in / 2][kPanelCols][2], two consecutive inputs of one output side by side
//   f16, f32: [panel][in][kPanelCols]
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "cpu/thread_pool.h"
#include "kvserve/backend.h"

namespace kvs::cpu {

inline constexpr uint32_t kPanelCols = 32;

class PackedWeight final : public LinearWeight {
 public:
  uint32_t num_panels() const { return (out_features + kPanelCols - 1) / kPanelCols; }
  // in_features, made even for bf16.
  uint32_t padded_in() const {
    return dtype == DType::kBf16 ? (in_features + 1) / 2 * 2 : in_features;
  }
  size_t panel_bytes() const { return size_t{padded_in()} * kPanelCols * SizeOf(dtype); }
  const uint8_t* panel(uint32_t index) const {
    return panels.as<const uint8_t>() + index * panel_bytes();
  }

  DeviceBuffer panels;
};

// kInvalidArgument when the parts differ in cols or are empty; kOsError when memory is short.
Result<std::unique_ptr<PackedWeight>> PackWeight(std::span<const HostMatrix> parts, DType dtype,
                                                 ThreadPool& pool);

// out[0, in_features) = row `row` of the matrix. REQUIRES: row < out_features.
void UnpackRow(const PackedWeight& weight, uint32_t row, float* out);

}  // namespace kvs::cpu
