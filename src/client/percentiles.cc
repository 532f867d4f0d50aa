#include "client/percentiles.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kvserve/check.h"

namespace kvs {

double Percentile(const std::vector<double>& sorted, double share) {
  KVS_CHECK(!sorted.empty());
  KVS_CHECK(share >= 0.0 && share <= 1.0);
  const double rank = share * static_cast<double>(sorted.size() - 1);
  const size_t below = static_cast<size_t>(std::floor(rank));
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (rank - static_cast<double>(below));
}

Distribution Summarize(std::vector<double> values) {
  Distribution result;
  if (values.empty()) return result;
  std::sort(values.begin(), values.end());
  result.count = values.size();
  result.mean =
      std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  result.p50 = Percentile(values, 0.50);
  result.p90 = Percentile(values, 0.90);
  result.p99 = Percentile(values, 0.99);
  result.max = values.back();
  return result;
}

}  // namespace kvs
