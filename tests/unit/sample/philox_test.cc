#include "sample/philox.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace kvs {
namespace {

// Known answers of Random123's kat_vectors for philox4x32 with 10 rounds.
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, UniformIsInRangeSpreadAndAFunctionOfSeedAndPosition) {
  constexpr int kDraws = 20000;
  double sum = 0;
  double sum_squares = 0;
  std::set<double> distinct;
  for (int i = 0; i < kDraws; ++i) {
    const double u = UniformAt(42, static_cast<uint64_t>(i));
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
    sum_squares += u * u;
    distinct.insert(u);
  }
  EXPECT_NEAR(sum / kDraws, 0.5, 0.01);
  EXPECT_NEAR(sum_squares / kDraws, 1.0 / 3, 0.01);
  EXPECT_EQ(distinct.size(), static_cast<size_t>(kDraws));
  EXPECT_EQ(UniformAt(42, 7), UniformAt(42, 7));
  EXPECT_NE(UniformAt(42, 7), UniformAt(43, 7));
  EXPECT_NE(UniformAt(42, 7), UniformAt(42 + (uint64_t{1} << 32), 7));  // the seed's upper half
  EXPECT_NE(UniformAt(42, 7), UniformAt(42, 7 + (uint64_t{1} << 32)));
}

}  // namespace
}  // namespace kvs
