// What a load test says about a set of measured times.
#pragma once

#include <cstddef>
#include <vector>

namespace kvs {

struct Distribution {
  size_t count = 0;
  double mean = 0.0;
  double p50 = 0.0;
  double p90 = 0.0;
  double p99 = 0.0;
  double max = 0.0;
};

// The value below which `share` of the sorted values lie, interpolated between neighbours (numpy's
// default). REQUIRES: `sorted` ascending and not empty, 0 <= share <= 1.
double Percentile(const std::vector<double>& sorted, double share);

// All zero for no values.
Distribution Summarize(std::vector<double> values);

}  // namespace kvs
