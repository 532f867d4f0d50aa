#include <algorithm>
#include <limits>

#include "kernels/kernel_test_util.h"

namespace kvs {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

SampleRow Greedy() {
  SampleRow row{};
  row.top_p = 1;
  row.repetition_penalty = 1;
  row.draw = true;
  row.num_logprobs = -1;
  return row;
}

SampleRow AtTemperature(float temperature, double uniform) {
  SampleRow row = Greedy();
  row.temperature = temperature;
  row.uniform = uniform;
  return row;
}

std::unique_ptr<Backend> SampleBackend(const std::string& set, uint32_t num_threads,
                                       uint32_t vocab_size) {
  auto backend = MakeBackend(set, num_threads);
  EXPECT_TRUE(backend->Reserve({.max_num_seqs = 4,
                                .max_num_batched_tokens = 4,
                                .max_num_logits_rows = 4,
                                .max_model_len = 1,
                                .num_heads = 1,
                                .num_kv_heads = 1,
                                .head_dim = 2,
                                .hidden_size = 2,
                                .intermediate_size = 2,
                                .vocab_size = vocab_size}));
  return backend;
}

SampleResult SampleOne(std::vector<float> logits, const SampleRow& row,
                       const std::string& set = "auto") {
  const auto n = static_cast<uint32_t>(logits.size());
  auto backend = SampleBackend(set, 1, n);
  SampleResult result;
  backend->Sample({logits.data(), &row, &result, 1, n});
  return result;
}

TEST(Sample, GreedyTakesTheLowestIdAmongTheLargest) {
  for (const std::string& set : InstructionSets()) {
    for (uint32_t n = 3; n < 70; ++n) {
      std::vector<float> logits(n, -2.0f);
      logits[n / 2] = logits[n - 1] = 5.0f;
      EXPECT_EQ(SampleOne(logits, Greedy(), set).token, TokenId{n / 2}) << set;
    }
  }
}

TEST(Sample, RefusesLogitsThatAreNotFinite) {
  for (const std::string& set : InstructionSets()) {
    for (const float bad : {NAN, kInf}) {
      for (uint32_t at = 0; at < 37; ++at) {
        std::vector<float> logits(37, 1.0f);
        logits[at] = bad;
        EXPECT_EQ(SampleOne(logits, Greedy(), set).token, kNoToken) << set << at;
        EXPECT_EQ(SampleOne(logits, AtTemperature(1, 0.5), set).token, kNoToken) << set << at;
      }
    }
    EXPECT_EQ(SampleOne(std::vector<float>(37, -kInf), Greedy(), set).token, kNoToken);
    std::vector<float> one_left(37, -kInf);
    one_left[36] = -3;
    EXPECT_EQ(SampleOne(one_left, Greedy(), set).token, TokenId{36});
    EXPECT_EQ(SampleOne(one_left, AtTemperature(1, 0.999), set).token, TokenId{36});
  }
}

TEST(Sample, AppliesBiasBannedAndPenalties) {
  const std::vector<float> logits = {1.0f, 2.0f, 3.0f, -1.0f};
  SampleRow row = Greedy();
  const TokenBias bias{TokenId{0}, 5.0f};
  row.biases = &bias;
  row.num_biases = 1;
  EXPECT_EQ(SampleOne(logits, row).token, TokenId{0});
  const TokenId banned[] = {TokenId{0}, TokenId{2}};
  row.banned = banned;
  row.num_banned = 2;
  EXPECT_EQ(SampleOne(logits, row).token, TokenId{1});

  row = Greedy();
  TokenCount count{TokenId{2}, 0};  // in the prompt only
  row.counts = &count;
  row.num_counts = 1;
  row.presence_penalty = 2.0f;
  row.frequency_penalty = 2.0f;
  EXPECT_EQ(SampleOne(logits, row).token, TokenId{2});
  row.repetition_penalty = 2.0f;  // 3 / 2 < 2
  EXPECT_EQ(SampleOne(logits, row).token, TokenId{1});
  row.repetition_penalty = 1.0f;
  count.output_count = 1;  // 3 - 2 - 2 < 2
  EXPECT_EQ(SampleOne(logits, row).token, TokenId{1});

  row.repetition_penalty = 4.0f;  // of a negative logit: multiplied
  const TokenCount negative{TokenId{3}, 0};
  row.counts = &negative;
  row.presence_penalty = row.frequency_penalty = 0;
  EXPECT_EQ(SampleOne({-2.0f, -9.0f, -9.0f, -1.0f}, row).token, TokenId{0});
}

// The probabilities by which tokens are drawn, found by sweeping the random number.
std::vector<double> Frequencies(const std::vector<float>& logits, SampleRow row,
                                const std::string& set) {
  constexpr int kDraws = 4000;
  const auto n = static_cast<uint32_t>(logits.size());
  auto backend = SampleBackend(set, 1, n);
  std::vector<double> frequencies(n);
  for (int i = 0; i < kDraws; ++i) {
    std::vector<float> scratch = logits;
    row.uniform = (i + 0.5) / kDraws;
    SampleResult result;
    backend->Sample({scratch.data(), &row, &result, 1, n});
    frequencies[result.token.value] += 1.0 / kDraws;
  }
  return frequencies;
}

// What SampleRow describes, with a full sort.
std::vector<double> Expected(const std::vector<float>& logits, const SampleRow& row) {
  const size_t n = logits.size();
  const float max = *std::max_element(logits.begin(), logits.end());
  std::vector<double> p(n);
  for (size_t i = 0; i < n; ++i) {
    p[i] = std::exp((logits[i] - double{max}) / row.temperature);
    if (p[i] < row.min_p) p[i] = 0;
  }
  std::vector<size_t> order(n);
  for (size_t i = 0; i < n; ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] > p[b]; });
  if (row.top_k > 0) {
    for (size_t i = static_cast<size_t>(row.top_k); i < n; ++i) p[order[i]] = 0;
  }
  double mass = 0, kept = 0;
  for (double weight : p) mass += weight;
  for (size_t i : order) {
    if (kept >= row.top_p * mass) p[i] = 0;
    kept += p[i];
  }
  mass = 0;
  for (double weight : p) mass += weight;
  for (double& weight : p) weight /= mass;
  return p;
}

TEST(Sample, DrawsByTheProbabilitiesThatAreLeft) {
  Random random(11);
  const auto logits = random.Normals(600, 2.0f);
  for (const std::string& set : InstructionSets()) {
    for (const float temperature : {0.3f, 1.0f, 1.7f}) {
      for (const int32_t top_k : {0, 1, 5, 100000}) {
        for (const float top_p : {1.0f, 0.8f, 0.05f}) {
          for (const float min_p : {0.0f, 0.1f}) {
            SampleRow row = AtTemperature(temperature, 0);
            row.top_k = top_k;
            row.top_p = top_p;
            row.min_p = min_p;
            const auto got = Frequencies(logits, row, set);
            const auto want = Expected(logits, row);
            for (size_t i = 0; i < want.size(); ++i) {
              ASSERT_NEAR(got[i], want[i], 1e-3)
                  << set << " T=" << temperature << " k=" << top_k << " p=" << top_p
                  << " min_p=" << min_p << " id=" << i;
              if (want[i] == 0) {
                ASSERT_EQ(got[i], 0) << set;
              }
            }
          }
        }
      }
    }
  }
}

TEST(Sample, ExtremeUniformsAndTemperaturesStayInside) {
  std::vector<float> logits(1000, -kInf);
  logits[3] = 0.1f;
  logits[900] = 0.0f;
  const double almost_one = std::nextafter(1.0, 0.0);
  EXPECT_EQ(SampleOne(logits, AtTemperature(1, 0.0)).token, TokenId{3});
  EXPECT_EQ(SampleOne(logits, AtTemperature(1, almost_one)).token, TokenId{900});
  EXPECT_EQ(SampleOne(logits, AtTemperature(1e-38f, almost_one)).token, TokenId{3});
  SampleRow top_p = AtTemperature(1, almost_one);
  top_p.top_p = 1e-6f;
  EXPECT_EQ(SampleOne(logits, top_p).token, TokenId{3});
  top_p.top_p = std::nextafter(1.0f, 0.0f);
  EXPECT_EQ(SampleOne(logits, top_p).token, TokenId{900});
}

TEST(Sample, LogprobsAreOfTheRawLogits) {
  std::vector<float> logits = {0.5f, 2.0f, -1.0f, 2.0f, -kInf, 1.0f};
  double mass = 0;
  for (float logit : logits) mass += std::exp(double{logit});
  const double log_sum = std::log(mass);
  for (const std::string& set : InstructionSets()) {
    SampleRow row = Greedy();
    const TokenId banned[] = {TokenId{1}, TokenId{3}};
    row.banned = banned;
    row.num_banned = 2;
    row.num_logprobs = 4;
    const SampleResult result = SampleOne(logits, row, set);
    EXPECT_EQ(result.token, TokenId{5});
    EXPECT_NEAR(result.logprob, 1.0 - log_sum, 1e-6);
    EXPECT_EQ(result.rank, 3u);
    const uint32_t top[] = {1, 3, 5, 0};
    for (int i = 0; i < 4; ++i) {
      EXPECT_EQ(result.top_ids[i], TokenId{top[i]});
      EXPECT_NEAR(result.top_logprobs[i], logits[top[i]] - log_sum, 1e-6);
    }
    row.draw = false;
    row.given = TokenId{2};
    row.num_logprobs = 0;
    const SampleResult given = SampleOne(logits, row, set);
    EXPECT_EQ(given.token, TokenId{2});
    EXPECT_EQ(given.rank, 5u);
    EXPECT_NEAR(given.logprob, -1.0 - log_sum, 1e-6);
  }
}

TEST(Sample, RowsDoNotDependOnOrderOrThreads) {
  constexpr uint32_t kVocab = 3001, kRows = 9;
  Random random(2);
  const auto logits = random.Normals(kRows * kVocab, 3.0f);
  std::vector<SampleRow> rows;
  for (uint32_t i = 0; i < kRows; ++i) {
    SampleRow row = AtTemperature(0.5f + 0.1f * static_cast<float>(i), i / 9.0);
    row.logits_row = kRows - 1 - i;
    row.top_p = i % 2 == 0 ? 1.0f : 0.9f;
    row.num_logprobs = static_cast<int32_t>(i) - 1;
    rows.push_back(row);
  }
  for (const std::string& set : InstructionSets()) {
    std::vector<SampleResult> alone(kRows), together(kRows);
    auto one = SampleBackend(set, 1, kVocab);
    auto three = SampleBackend(set, 3, kVocab);
    for (uint32_t i = 0; i < kRows; ++i) {
      auto scratch = logits;
      one->Sample({scratch.data(), &rows[i], &alone[i], 1, kVocab});
    }
    auto scratch = logits;
    three->Sample({scratch.data(), rows.data(), together.data(), kRows, kVocab});
    for (uint32_t i = 0; i < kRows; ++i) {
      EXPECT_EQ(std::memcmp(&alone[i], &together[i], sizeof(SampleResult)), 0) << set << i;
    }
  }
}

}  // namespace
}  // namespace kvs
