// The bundled model against outputs that Hugging Face Transformers computed in float32.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "unit/model/model_fixture.h"
#include "unit/model/model_runner.h"

namespace kvs {
namespace {

constexpr float kNearTie = 0.1f;

struct Golden {
  std::vector<TokenId> prompt;
  std::vector<TokenId> output;
  std::vector<std::pair<uint32_t, float>> first_top5;  // id and logit of the first step
};

std::vector<Golden> ReadGolden() {
  std::vector<Golden> all;
  for (const auto& row : nlohmann::json::parse(ReadFile(DefaultModelDir() / "golden.json"))) {
    Golden golden;
    for (const uint32_t id : row["prompt_ids"]) golden.prompt.push_back({id});
    for (const uint32_t id : row["output_ids"]) golden.output.push_back({id});
    for (const auto& top : row["first_top5"]) {
      golden.first_top5.emplace_back(top["id"].get<uint32_t>(), top["logit"].get<float>());
    }
    all.push_back(std::move(golden));
  }
  return all;
}

// The logits before each of the 32 output tokens, [prompt][step], with the golden tokens as input:
// all prompts prefill together, then decode together.
std::vector<Logits> RunGolden(const std::vector<Golden>& golden, DType dtype, KvCacheDType kv_dtype,
                              uint64_t* num_saturated = nullptr,
                              const std::string& instruction_set = "auto") {
  ModelRunner runner(ModelRunner::Options(DefaultModelDir(), dtype, kv_dtype), instruction_set);
  std::vector<Logits> all(golden.size());
  if (!runner.ok()) return all;
  std::vector<TestSequence> sequences;
  for (const Golden& g : golden) {
    sequences.push_back(runner.NewSequence(g.prompt));
    auto& tokens = sequences.back().tokens;
    tokens.insert(tokens.end(), g.output.begin(), g.output.end());
  }
  for (size_t step = 0; step < golden[0].output.size(); ++step) {
    std::vector<ScheduledSlice> slices;
    for (size_t i = 0; i < golden.size(); ++i) {
      const size_t n = step == 0 ? golden[i].prompt.size() : 1;
      slices.push_back(runner.Slice(sequences[i], static_cast<uint32_t>(n), 1));
    }
    Logits rows = runner.Run(std::move(slices));
    for (size_t i = 0; i < golden.size(); ++i) all[i].push_back(std::move(rows[i]));
  }
  if (num_saturated != nullptr) *num_saturated = runner.model().num_saturated();
  return all;
}

// How many leading outputs are the golden ones, stopping before the first near-tie of `exact`.
size_t NumClearOutputs(const Golden& golden, const Logits& exact) {
  size_t n = 0;
  while (n < golden.output.size() && TopMargin(exact[n]) >= kNearTie) ++n;
  return n;
}

float LargestDifference(const std::vector<float>& a, const std::vector<float>& b) {
  float largest = 0.0f;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

class GoldenFloat32Test : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenFloat32Test, MeetsIdsAndLogits) {
  const std::string set = GetParam();
  if (!MakeCpuBackend({.num_threads = 1, .instruction_set = set})) {
    GTEST_SKIP() << "this processor lacks " << set;
  }
  const auto golden = ReadGolden();
  ASSERT_EQ(golden.size(), 7u);
  const auto logits = RunGolden(golden, DType::kF32, KvCacheDType::kF32, nullptr, set);
  for (size_t i = 0; i < golden.size(); ++i) {
    for (const auto& [id, logit] : golden[i].first_top5) {
      EXPECT_NEAR(logits[i][0][id], logit, 1e-3) << "prompt " << i << ", token " << id;
    }
    std::vector<float> sorted = logits[i][0];
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    EXPECT_NEAR(sorted[4], golden[i].first_top5.back().second, 1e-3) << "prompt " << i;
    for (size_t step = 0; step < golden[i].output.size(); ++step) {
      ASSERT_EQ(ArgMax(logits[i][step]), golden[i].output[step].value)
          << "prompt " << i << ", step " << step;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(InstructionSets, GoldenFloat32Test,
                         ::testing::Values("portable", "avx2", "avx512", "amx"),
                         [](const auto& test) { return std::string(test.param); });

struct Stored {
  DType dtype;
  KvCacheDType kv_dtype;
  float largest_difference;  // of any logit from float32: under twice what was measured
};

class GoldenStoredTest : public ::testing::TestWithParam<Stored> {};

TEST_P(GoldenStoredTest, MeetsIdsUpToNearTies) {
  const auto golden = ReadGolden();
  const auto exact = RunGolden(golden, DType::kF32, KvCacheDType::kF32);
  uint64_t num_saturated = 1;
  const auto logits = RunGolden(golden, GetParam().dtype, GetParam().kv_dtype, &num_saturated);
  EXPECT_EQ(num_saturated, 0u);
  size_t num_compared = 0;
  float largest = 0.0f;
  for (size_t i = 0; i < golden.size(); ++i) {
    const size_t num_clear = NumClearOutputs(golden[i], exact[i]);
    for (size_t step = 0; step < num_clear; ++step) {
      EXPECT_EQ(ArgMax(logits[i][step]), golden[i].output[step].value)
          << "prompt " << i << ", step " << step;
    }
    num_compared += num_clear;
    for (size_t step = 0; step < golden[i].output.size(); ++step) {
      largest = std::max(largest, LargestDifference(exact[i][step], logits[i][step]));
    }
  }
  EXPECT_GE(num_compared, 100u);
  EXPECT_LT(largest, GetParam().largest_difference);
  EXPECT_GT(largest, 0.0f);  // what was asked for was stored
  RecordProperty("largest_difference", std::to_string(largest));
}

INSTANTIATE_TEST_SUITE_P(Formats, GoldenStoredTest,
                         ::testing::Values(Stored{DType::kBf16, KvCacheDType::kBf16, 0.25f},
                                           Stored{DType::kF16, KvCacheDType::kF16, 0.01f},
                                           Stored{DType::kBf16, KvCacheDType::kF8E4M3, 1.5f},
                                           Stored{DType::kBf16, KvCacheDType::kF8E5M2, 4.0f}));

}  // namespace
}  // namespace kvs
