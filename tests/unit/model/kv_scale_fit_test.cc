// The observers of calibration on distributions whose answer is known.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "kvserve/float_bits.h"
#include "model/kv_calibration.h"

namespace kvs {
namespace {

using testing::HasSubstr;

constexpr KvLayout kTwoLayers = {.num_layers = 2,
                                 .num_kv_heads = 2,
                                 .head_dim = 32,
                                 .block_size = 16,
                                 .dtype = KvCacheDType::kF8E4M3};

void Add(KvHeadStatistics& head, float value) {
  head.counts.resize(kKvStatsBins);
  ++head.counts[FloatBits(std::fabs(value)) >> 16];
  if (!(std::fabs(value) <= head.largest)) head.largest = std::fabs(value);
}

// Head h of layer l: normal values of deviation l + h + 1; V ten times those of K.
KvStatistics Normals() {
  KvStatistics statistics(kTwoLayers);
  std::mt19937_64 random(3);
  std::normal_distribution<float> normal;
  for (uint32_t layer = 0; layer < 2; ++layer) {
    for (uint32_t head = 0; head < 2; ++head) {
      for (int i = 0; i < 20000; ++i) {
        const float value = normal(random) * static_cast<float>(layer + head + 1);
        Add(statistics.At(layer, false, head), value);
        Add(statistics.At(layer, true, head), 10 * value);
      }
    }
  }
  return statistics;
}

TEST(KvScaleFit, MinMaxPutsTheLargestValueOnTheLargestCode) {
  const KvStatistics statistics = Normals();
  const auto heads = *FitKvScales(statistics, {.per_head = true});
  const auto layers = *FitKvScales(statistics, {});
  for (uint32_t layer = 0; layer < 2; ++layer) {
    for (uint32_t head = 0; head < 2; ++head) {
      const size_t at = layer * 2 + head;
      EXPECT_EQ(heads.k[at], statistics.At(layer, false, head).largest / kF8E4M3Max);
      EXPECT_EQ(heads.v[at], statistics.At(layer, true, head).largest / kF8E4M3Max);
      EXPECT_EQ(layers.k[at], std::max(heads.k[layer * 2], heads.k[layer * 2 + 1]));
    }
  }
  const auto wide = *FitKvScales(statistics, {.headroom = 2.0f, .dtype = KvCacheDType::kF8E5M2});
  EXPECT_FLOAT_EQ(wide.k[0] * kF8E5M2Max, 2 * layers.k[0] * kF8E4M3Max);
}

TEST(KvScaleFit, PercentileLeavesThatShareUnclipped) {
  KvStatistics statistics = Normals();
  Add(statistics.At(0, false, 0), 1e5f);  // an outlier
  const auto fitted = *FitKvScales(
      statistics, {.fit = KvScaleFit::kPercentile, .per_head = true, .percentile = 0.999});
  // 0.1 % of a normal distribution lies beyond 3.29 deviations.
  EXPECT_NEAR(fitted.k[0] * kF8E4M3Max, 3.29, 0.15);
  EXPECT_NEAR(fitted.v[0] * kF8E4M3Max, 32.9, 1.5);
  const auto all = *FitKvScales(
      statistics, {.fit = KvScaleFit::kPercentile, .per_head = true, .percentile = 1.0});
  EXPECT_EQ(all.k[0] * kF8E4M3Max, 1e5f);
}

TEST(KvScaleFit, MseIsNoWorseThanAnyScaleItLookedAtAndClipsALoneOutlier) {
  KvStatistics statistics = Normals();
  KvHeadStatistics& head = statistics.At(0, false, 0);
  Add(head, 40.0f);
  const auto mse = *FitKvScales(statistics, {.fit = KvScaleFit::kMse, .per_head = true});
  const auto minmax = *FitKvScales(statistics, {.per_head = true});
  for (const float factor : {0.3f, 0.6f, 1.0f, 1.5f}) {
    const float scale = minmax.k[0] * factor;
    if (scale > minmax.k[0]) continue;
    EXPECT_LE(RelativeSquaredError(head, KvCacheDType::kF8E4M3, mse.k[0]),
              RelativeSquaredError(head, KvCacheDType::kF8E4M3, scale) * 1.02)
        << factor;
  }
}

// The error from the counts against storing every value.
TEST(KvScaleFit, RelativeSquaredErrorIsThatOfStoringTheValues) {
  KvHeadStatistics head;
  std::mt19937_64 random(9);
  std::normal_distribution<float> normal;
  double error = 0.0, square = 0.0;
  constexpr float kScale = 0.005f;  // clips beyond 2.24
  for (int i = 0; i < 50000; ++i) {
    const float value = normal(random);
    Add(head, value);
    const double off = double{F8E4M3ToFloat(FloatToF8E4M3(value / kScale))} * kScale - value;
    error += off * off;
    square += double{value} * value;
  }
  const double want = error / square;
  EXPECT_NEAR(RelativeSquaredError(head, KvCacheDType::kF8E4M3, kScale), want, 0.05 * want);
  EXPECT_EQ(RelativeSquaredError(KvHeadStatistics(), KvCacheDType::kF8E4M3, 1.0f), 0.0);
}

TEST(KvScaleFit, ZerosGetOneAndValuesThatAreNotFiniteAreRefused) {
  KvStatistics zeros(kTwoLayers);
  for (const KvScaleFit fit : {KvScaleFit::kMinMax, KvScaleFit::kMse}) {
    const auto scales = FitKvScales(zeros, {.fit = fit});
    ASSERT_TRUE(scales);
    EXPECT_EQ(scales->k, std::vector<float>(4, 1.0f));
  }
  zeros.At(1, true, 0).largest = NAN;
  const auto refused = FitKvScales(zeros, {});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("layer 1 gives values that are not finite"));
}

}  // namespace
}  // namespace kvs
