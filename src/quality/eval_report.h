// What eval prints, writes and draws.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "quality/variant.h"

namespace kvs {

// K or V of one layer of a variant.
struct LayerError {
  double relative = 0.0;       // root of the relative squared error of storing, over all heads
  double clipped_share = 0.0;  // of the elements stored
  uint64_t num_clipped = 0;
};
LayerError LayerErrorOf(const Variant& variant, uint32_t layer, bool is_v);

// The first variant is the reference.
std::string EvalReportText(const std::vector<Variant>& variants);
std::string EvalReportJson(const std::vector<Variant>& variants);
// The relative error of every layer, a line for K and one for V of each FP8 variant, as SVG.
std::string EvalPlot(const std::vector<Variant>& variants);

}  // namespace kvs
