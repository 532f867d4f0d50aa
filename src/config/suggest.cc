#include "config/suggest.h"

#include <algorithm>
#include <numeric>

namespace kvs {

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);  // distances of a's first i characters to b's first j
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({substituted, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

std::string Suggestion(std::string_view unknown, const std::vector<std::string>& names) {
  constexpr size_t kLongestName = 64;
  if (unknown.size() > kLongestName) return {};
  const std::string* closest = nullptr;
  size_t least = std::max<size_t>(2, unknown.size() / 3) + 1;
  for (const std::string& name : names) {
    const size_t distance = EditDistance(unknown, name);
    if (distance >= least) continue;
    least = distance;
    closest = &name;
  }
  return closest == nullptr ? std::string() : "; did you mean '" + *closest + "'?";
}

}  // namespace kvs
