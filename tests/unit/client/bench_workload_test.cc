#include "client/bench_workload.h"

#include <gtest/gtest.h>

#include <cmath>

namespace kvs {
namespace {

TEST(BenchWorkload, PoissonArrivalsHaveTheirRate) {
  const std::vector<double> times = PoissonArrivals(20001, 50.0, 7);
  EXPECT_EQ(times.front(), 0.0);
  double sum = 0.0, squares = 0.0;
  for (size_t i = 1; i < times.size(); ++i) {
    const double gap = times[i] - times[i - 1];
    ASSERT_GE(gap, 0.0);
    sum += gap;
    squares += gap * gap;
  }
  const double mean = sum / 20000, deviation = std::sqrt(squares / 20000 - mean * mean);
  EXPECT_NEAR(mean, 1.0 / 50.0, 0.02 / 50.0);
  EXPECT_NEAR(deviation, mean, 0.03 * mean);  // exponential: as large as the mean
  EXPECT_EQ(PoissonArrivals(10, 50.0, 7), PoissonArrivals(10, 50.0, 7));
  EXPECT_NE(PoissonArrivals(10, 50.0, 7), PoissonArrivals(10, 50.0, 8));
}

TEST(BenchWorkload, IdsShareExactlyThePrefix) {
  BenchCommand command;
  command.prompt_tokens = 50;
  command.shared_prefix_tokens = 30;
  command.num_prefixes = 2;
  PromptIds vocabulary(1000);
  for (uint32_t i = 0; i < vocabulary.size(); ++i) vocabulary[i] = 3 * i;
  const auto common = [&](uint32_t a, uint32_t b) {
    const PromptIds x = RandomIds(command, vocabulary, a), y = RandomIds(command, vocabulary, b);
    EXPECT_EQ(x.size(), 50u);
    size_t n = 0;
    while (n < x.size() && x[n] == y[n]) ++n;
    return n;
  };
  EXPECT_EQ(common(0, 2), 30u);
  EXPECT_EQ(common(1, 3), 30u);
  EXPECT_EQ(common(0, 1), 0u);
  EXPECT_EQ(common(5, 5), 50u);
}

}  // namespace
}  // namespace kvs
