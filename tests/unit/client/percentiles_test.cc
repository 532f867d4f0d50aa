#include "client/percentiles.h"

#include <gtest/gtest.h>

#include <numeric>

namespace kvs {
namespace {

TEST(Percentile, InterpolatesBetweenNeighbours) {
  const std::vector<double> values = {10, 20, 30, 40};
  EXPECT_DOUBLE_EQ(Percentile(values, 0.0), 10);
  EXPECT_DOUBLE_EQ(Percentile(values, 1.0), 40);
  EXPECT_DOUBLE_EQ(Percentile(values, 0.5), 25);
  EXPECT_DOUBLE_EQ(Percentile(values, 0.9), 37);
  EXPECT_DOUBLE_EQ(Percentile(values, 1.0 / 3.0), 20);
  EXPECT_DOUBLE_EQ(Percentile({7}, 0.99), 7);
}

TEST(Summarize, TakesValuesInAnyOrder) {
  std::vector<double> values(101);
  std::iota(values.rbegin(), values.rend(), 0.0);
  const Distribution d = Summarize(values);
  EXPECT_EQ(d.count, 101u);
  EXPECT_DOUBLE_EQ(d.mean, 50);
  EXPECT_DOUBLE_EQ(d.p50, 50);
  EXPECT_DOUBLE_EQ(d.p90, 90);
  EXPECT_DOUBLE_EQ(d.p99, 99);
  EXPECT_DOUBLE_EQ(d.max, 100);
}

TEST(Summarize, OfNothingIsZero) {
  const Distribution d = Summarize({});
  EXPECT_EQ(d.count, 0u);
  EXPECT_EQ(d.mean, 0.0);
  EXPECT_EQ(d.p99, 0.0);
}

TEST(PercentileDeathTest, OfNothingIsABug) { EXPECT_DEATH(Percentile({}, 0.5), "check failed"); }

}  // namespace
}  // namespace kvs
