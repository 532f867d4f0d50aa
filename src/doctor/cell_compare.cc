#include "doctor/cell_compare.h"

#include <fmt/format.h>

#include <algorithm>

namespace kvs {

Closeness SameTypeCloseness(bool batch_invariant) {
  if (batch_invariant) return {.exact = true};
  return {.gap_max = 0.5, .mean_delta_max = 0.1};
}

Closeness Fp8Closeness(KvCacheDType fp8_dtype) {
  if (fp8_dtype == KvCacheDType::kF8E5M2) return {.gap_max = 3.0, .mean_delta_max = 0.8};
  return {.gap_max = 1.5, .mean_delta_max = 0.4};
}

Distance DistanceOf(const std::vector<CellAnswer>& wanted, const std::vector<CellAnswer>& got) {
  Distance worst;
  for (size_t i = 0; i < wanted.size() && i < got.size(); ++i) {
    const Distance distance = DistanceOf(wanted[i].tokens, got[i].tokens);
    worst.gap = std::max(worst.gap, distance.gap);
    worst.mean_delta = std::max(worst.mean_delta, distance.mean_delta);
  }
  return worst;
}

std::optional<std::string> FindDifference(const CellAnswer& wanted, const CellAnswer& got,
                                          const Closeness& closeness) {
  return FindDifference(wanted.tokens, got.tokens, closeness);
}

std::optional<std::string> FindDifference(const std::vector<CellAnswer>& wanted,
                                          const std::vector<CellAnswer>& got,
                                          const Closeness& closeness) {
  for (size_t i = 0; i < wanted.size() && i < got.size(); ++i) {
    if (auto difference = FindDifference(wanted[i], got[i], closeness)) {
      return fmt::format("'{}': {}", got[i].name, *difference);
    }
  }
  return std::nullopt;
}

}  // namespace kvs
