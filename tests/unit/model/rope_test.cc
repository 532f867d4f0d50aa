#include "model/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace kvs {
namespace {

TEST(RopeTest, UnscaledTableIsCosThenSin) {
  RopeConfig config;
  config.theta = 10000.0;
  const auto table = MakeRopeTable(config, 8, 100);
  ASSERT_EQ(table.size(), 800u);
  for (uint32_t position : {0u, 1u, 99u}) {
    for (uint32_t i = 0; i < 4; ++i) {
      const double angle = position / std::pow(10000.0, i / 4.0);
      EXPECT_NEAR(table[position * 8 + i], std::cos(angle), 1e-6);
      EXPECT_NEAR(table[position * 8 + 4 + i], std::sin(angle), 1e-6);
    }
  }
}

// The frequency of pair i, read back from the angle at position 1.
double FrequencyAt(const std::vector<float>& table, uint32_t head_dim, uint32_t i) {
  return std::atan2(table[head_dim + head_dim / 2 + i], table[head_dim + i]);
}

TEST(RopeTest, Llama3ScalesByWavelength) {
  RopeConfig config;
  config.theta = 500000.0;
  config.scaling = RopeConfig::Scaling::kLlama3;
  config.factor = 8.0;
  config.low_freq_factor = 1.0;
  config.high_freq_factor = 4.0;
  config.original_max_position_embeddings = 8192;
  const uint32_t head_dim = 128;
  const auto table = MakeRopeTable(config, head_dim, 2);
  int num_kept = 0;
  int num_blended = 0;
  int num_slowed = 0;
  for (uint32_t i = 0; i < head_dim / 2; ++i) {
    const double plain = std::pow(500000.0, -2.0 * i / head_dim);
    const double got = FrequencyAt(table, head_dim, i);
    const double wavelength = 2.0 * std::numbers::pi / plain;
    if (wavelength < 8192.0 / 4.0) {
      EXPECT_NEAR(got, plain, 1e-6 * plain + 1e-9) << i;
      ++num_kept;
    } else if (wavelength > 8192.0) {
      EXPECT_NEAR(got, plain / 8.0, 1e-6 * plain) << i;
      ++num_slowed;
    } else {
      const double smooth = (8192.0 / wavelength - 1.0) / 3.0;
      EXPECT_NEAR(got, (1.0 - smooth) * plain / 8.0 + smooth * plain, 1e-6 * plain) << i;
      ++num_blended;
    }
  }
  EXPECT_GT(num_kept, 0);
  EXPECT_GT(num_blended, 0);
  EXPECT_GT(num_slowed, 0);
}

TEST(RopeTest, LinearDividesEveryFrequency) {
  RopeConfig config;
  config.scaling = RopeConfig::Scaling::kLinear;
  config.factor = 4.0;
  const auto table = MakeRopeTable(config, 8, 2);
  for (uint32_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(FrequencyAt(table, 8, i), std::pow(10000.0, -2.0 * i / 8) / 4.0, 1e-7) << i;
  }
}

struct YarnCase {
  RopeConfig config;
  uint32_t head_dim;
  // Of every (head_dim / 16)-th pair, as ROPE_INIT_FUNCTIONS["yarn"] of Transformers 5 gives them.
  double frequencies[8];
};

TEST(RopeTest, YarnBlendsAlongARampAndScalesTheTable) {
  constexpr auto kYarn = RopeConfig::Scaling::kYarn;
  const YarnCase cases[] = {
      {{.theta = 1e6,
        .scaling = kYarn,
        .factor = 4.0,
        .original_max_position_embeddings = 32768,
        .attention_factor = 1.138629436111989},
       128,
       {1.0, 0.17782794, 0.031622779, 0.0053753215, 0.00060294115, 4.4456985e-05, 7.9056936e-06,
        1.4058534e-06}},
      {{.theta = 1e4,
        .scaling = kYarn,
        .factor = 16.0,
        .original_max_position_embeddings = 4096,
        .beta_fast = 16.0,
        .beta_slow = 2.0,
        .truncate = false},
       64,
       {1.0, 0.31622776, 0.1, 0.031622779, 0.0059520239, 0.00024081112, 6.2500003e-05,
        1.9764237e-05}},
  };
  for (const auto& [config, head_dim, frequencies] : cases) {
    const auto table = MakeRopeTable(config, head_dim, 2);
    for (uint32_t i = 0; i < 8; ++i) {
      const double want = frequencies[i];
      EXPECT_NEAR(FrequencyAt(table, head_dim, i * head_dim / 16), want, want * 1e-5) << i;
    }
    EXPECT_NEAR(table[0], config.attention_factor, 1e-6);  // cosine of position 0
  }
}

}  // namespace
}  // namespace kvs
