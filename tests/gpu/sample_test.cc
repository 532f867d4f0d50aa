#include "gpu/sample.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "gpu/gpu_test_util.h"
#include "support/reference_sampler.h"

namespace kvs::gpu {
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

// Samples rows of `logits`, each [vocab_size], in one call.
class Sampler {
 public:
  Sampler(uint32_t max_rows, uint32_t vocab_size)
      : max_rows_(max_rows),
        vocab_size_(vocab_size),
        logits_(size_t{max_rows} * vocab_size),
        launch_(TestLaunch(DType::kBf16)) {
    launch_.dependent = true;
    BackendLimits limits{};
    limits.max_num_logits_rows = max_rows;
    limits.vocab_size = vocab_size;
    EXPECT_TRUE(op_.Reserve(limits));
  }

  // Rows whose logits_row is beyond `logits` are not allowed.
  std::vector<SampleResult> operator()(const std::vector<float>& logits,
                                       const std::vector<SampleRow>& rows) {
    std::vector<SampleResult> results(rows.size());
    SampleParams params{logits_.data(), rows.data(), results.data(),
                        static_cast<uint32_t>(rows.size()), vocab_size_};
    EXPECT_LE(logits.size(), logits_.size());
    KVS_GPU(
        Memcpy(logits_.data(), logits.data(), logits.size() * 4, KVS_GPU_NAME(MemcpyHostToDevice)));
    op_.Start(params, launch_);
    op_.Finish(params);
    return results;
  }

  // The same row of logits under each of `rows`, whose logits_row this sets.
  std::vector<SampleResult> Each(const std::vector<float>& logits, std::vector<SampleRow> rows) {
    std::vector<float> copies;
    for (uint32_t i = 0; i < rows.size(); ++i) {
      rows[i].logits_row = i;
      copies.insert(copies.end(), logits.begin(), logits.end());
    }
    return (*this)(copies, rows);
  }

  SampleOp& op() { return op_; }
  float* logits() const { return logits_.data(); }
  const Launch& launch() const { return launch_; }

 private:
  uint32_t max_rows_, vocab_size_;
  DeviceArray<float> logits_;
  Launch launch_;
  SampleOp op_;
};

SampleResult SampleOne(const std::vector<float>& logits, const SampleRow& row) {
  return Sampler(1, static_cast<uint32_t>(logits.size()))(logits, {row})[0];
}

TEST(GpuSample, GreedyTakesTheLowestIdAmongTheLargest) {
  for (const uint32_t n : {3u, 70u, 1024u, 1026u, 4099u, 128256u}) {
    for (const uint32_t num_rows : {1u, 3u, 70u}) {
      Sampler sampler(num_rows, n);
      std::vector<float> logits(size_t{num_rows} * n, -2.0f);
      std::vector<SampleRow> rows;
      Random random(n);
      std::vector<uint32_t> want;
      for (uint32_t i = 0; i < num_rows; ++i) {
        SampleRow row = Greedy();
        row.logits_row = num_rows - 1 - i;
        rows.push_back(row);
        const uint32_t at = i == 0 ? 0 : random.Below(n);
        want.push_back(at);
        float* const of_row = &logits[size_t{row.logits_row} * n];
        of_row[at] = -0.0f;
        for (int twice = 0; twice < 2; ++twice) of_row[at + random.Below(n - at)] += 2.0f;
        for (uint32_t j = 0; j < n; ++j) of_row[j] = std::min(of_row[j], 0.0f);
      }
      const auto alone = sampler(logits, rows);
      rows[0].temperature = 1;  // not greedy alone: the other kernels
      const auto mixed = sampler(logits, rows);
      for (uint32_t i = 0; i < num_rows; ++i) {
        EXPECT_EQ(alone[i].token, TokenId{want[i]}) << n << " " << num_rows << " " << i;
        if (i > 0) {
          EXPECT_EQ(mixed[i].token, TokenId{want[i]}) << n << " " << num_rows << " " << i;
        }
      }
    }
  }
}

TEST(GpuSample, RefusesLogitsThatAreNotFinite) {
  for (const uint32_t n : {37u, 5000u}) {
    Sampler sampler(3, n);
    SampleRow top_k = AtTemperature(1, 0.5);
    top_k.top_k = 3;
    for (const float bad : {NAN, -NAN, kInf}) {
      for (const uint32_t at : {0u, 17u, n - 1}) {
        std::vector<float> logits(n, 1.0f);
        logits[at] = bad;
        EXPECT_EQ(sampler.Each(logits, {Greedy()})[0].token, kNoToken) << bad << at;
        for (const SampleResult& result :
             sampler.Each(logits, {Greedy(), AtTemperature(1, 0.5), top_k})) {
          EXPECT_EQ(result.token, kNoToken) << bad << at;
        }
        // Banning the token does not hide it.
        SampleRow bans = Greedy();
        const TokenId banned[] = {TokenId{at}, TokenId{at}};
        bans.banned = banned;
        bans.num_banned = 2;
        EXPECT_EQ(sampler.Each(logits, {bans})[0].token, kNoToken) << bad << at;
      }
    }
    std::vector<float> logits(n, -kInf);
    for (const SampleResult& result :
         sampler.Each(logits, {Greedy(), AtTemperature(1, 0.5), top_k})) {
      EXPECT_EQ(result.token, kNoToken);
    }
    logits[n - 1] = -3;
    for (const SampleResult& result :
         sampler.Each(logits, {Greedy(), AtTemperature(1, 0.999), top_k})) {
      EXPECT_EQ(result.token, TokenId{n - 1});
    }
    SampleRow bans = Greedy();
    const TokenId last{n - 1};
    bans.banned = &last;
    bans.num_banned = 1;
    EXPECT_EQ(sampler.Each(logits, {bans})[0].token, kNoToken);
  }
}

// What a row may draw: the tokens that are left, each with its place among the random numbers.
// Truncated rows are walked from the most likely token on, others in the order of tokens.
class Draws {
 public:
  Draws(const SampleRow& row, const std::vector<float>& logits) {
    std::vector<double> values(logits.begin(), logits.end());
    test::ApplyHistory(row, values);
    auto sorted = test::Sorted(values);
    double sum = 0;
    size_t num_left = 0;
    const double largest = sorted[0].value;
    for (auto& candidate : sorted) {
      candidate.value = std::exp((candidate.value - largest) / row.temperature);
      const bool left = candidate.value >= row.min_p * (1 - 1e-6) &&
                        (row.top_k <= 0 || num_left < static_cast<size_t>(row.top_k));
      if (!left) break;
      sum += candidate.value;
      ++num_left;
    }
    // Rounding may move the end of top_p by some tokens of little weight.
    double before = 0;
    weights_.resize(logits.size());
    allowed_.resize(logits.size());
    for (size_t i = 0; i < num_left; ++i) {
      if (before < row.top_p * sum) weights_[sorted[i].token] = sorted[i].value;
      allowed_[sorted[i].token] = i == 0 || before < (row.top_p + 1e-5) * sum;
      before += sorted[i].value;
    }
    ends_.resize(logits.size());
    const bool truncates = (row.top_k > 0 && static_cast<size_t>(row.top_k) < logits.size()) ||
                           row.top_p < 1 || row.min_p > 0;
    for (size_t i = 0; i < ends_.size(); ++i) {
      const size_t token = truncates ? sorted[i].token : i;
      ends_[token] = total_ += weights_[token];
    }
  }

  void Expect(double uniform, TokenId token, const std::string& what) const {
    constexpr double kSlack = 5e-5;
    ASSERT_LT(token.value, ends_.size()) << what;
    EXPECT_TRUE(allowed_[token.value]) << what << " token " << token.value;
    const double end = ends_[token.value] / total_;
    EXPECT_LT(uniform, end + kSlack) << what << " token " << token.value;
    EXPECT_GE(uniform, end - weights_[token.value] / total_ - kSlack)
        << what << " token " << token.value;
  }

 private:
  std::vector<double> weights_, ends_;
  std::vector<bool> allowed_;
  double total_ = 0;
};

std::string Describe(const SampleRow& row, size_t vocab_size) {
  return "n=" + std::to_string(vocab_size) + " T=" + std::to_string(row.temperature) +
         " k=" + std::to_string(row.top_k) + " p=" + std::to_string(row.top_p) +
         " min_p=" + std::to_string(row.min_p) + " u=" + std::to_string(row.uniform);
}

void ExpectDraws(const std::vector<float>& logits, const std::vector<SampleRow>& kinds) {
  constexpr double kUniforms[] = {0.0, 0.013, 0.37, 0.5, 0.81, 0.9999};
  std::vector<SampleRow> rows;
  for (const SampleRow& kind : kinds) {
    for (const double uniform : kUniforms) {
      rows.push_back(kind);
      rows.back().uniform = uniform;
    }
  }
  Sampler sampler(static_cast<uint32_t>(rows.size()), static_cast<uint32_t>(logits.size()));
  const auto results = sampler.Each(logits, rows);
  for (size_t i = 0; i < rows.size(); ++i) {
    if (i % std::size(kUniforms) != 0) continue;
    const Draws draws(rows[i], logits);
    for (size_t j = i; j < i + std::size(kUniforms); ++j) {
      draws.Expect(rows[j].uniform, results[j].token, Describe(rows[j], logits.size()));
    }
  }
}

std::vector<SampleRow> KindsOfFilters() {
  std::vector<SampleRow> kinds;
  for (const float temperature : {0.3f, 1.0f, 1.7f}) {
    for (const int32_t top_k : {0, 1, 5, 50, 700, 100000}) {
      for (const float top_p : {1.0f, 0.999f, 0.8f, 0.05f}) {
        for (const float min_p : {0.0f, 0.1f}) {
          kinds.push_back(AtTemperature(temperature, 0));
          kinds.back().top_k = top_k;
          kinds.back().top_p = top_p;
          kinds.back().min_p = min_p;
        }
      }
    }
  }
  return kinds;
}

class GpuSampleDraws : public testing::TestWithParam<uint32_t> {};

TEST_P(GpuSampleDraws, FollowTheProbabilitiesThatAreLeft) {
  ExpectDraws(Random(GetParam()).Normals(GetParam(), 2.0f), KindsOfFilters());
}

// A token costs an emulator half a millisecond.
#if defined(KVS_GPU_EMULATOR)
INSTANTIATE_TEST_SUITE_P(Vocabulary, GpuSampleDraws, testing::Values(7u, 1003u));
#else
INSTANTIATE_TEST_SUITE_P(Vocabulary, GpuSampleDraws, testing::Values(7u, 600u, 1003u, 5000u));
#endif

// Many equal logits: the lowest ids among them lead.
TEST(GpuSample, DrawsTheLowestIdsAmongEqualLogits) {
  std::vector<float> steps(2000);
  for (size_t i = 0; i < steps.size(); ++i) steps[i] = static_cast<float>(i * 7 % 5);
  ExpectDraws(steps, KindsOfFilters());
}

// Flat rows, where more tokens are left than shared memory holds, and peaked ones as models give.
TEST(GpuSample, DrawsFromALargeVocabulary) {
  std::vector<SampleRow> kinds;
  for (const auto& [top_k, top_p, min_p] :
       std::vector<std::tuple<int, float, float>>{{0, 1.0f, 0.0f},
                                                  {0, 0.95f, 0.0f},
                                                  {50, 0.9f, 0.0f},
                                                  {3000, 1.0f, 0.0f},
                                                  {20000, 0.7f, 0.0f},
                                                  {0, 1.0f, 0.05f},
                                                  {40, 0.9f, 1e-3f}}) {
    kinds.push_back(AtTemperature(1, 0));
    kinds.back().top_k = top_k;
    kinds.back().top_p = top_p;
    kinds.back().min_p = min_p;
  }
  Random random(1);
  std::vector<float> logits = random.Normals(128256, 1.0f);
  ExpectDraws(logits, kinds);
  for (float& logit : logits) logit *= 2;
  for (int i = 0; i < 40; ++i) logits[random.Below(128256)] = 8.0f + static_cast<float>(i) / 8;
  ExpectDraws(logits, kinds);
}

TEST(GpuSample, ExtremeUniformsAndTemperaturesStayInside) {
  std::vector<float> logits(1000, -kInf);
  logits[3] = 0.1f;
  logits[900] = 0.0f;
  const double almost_one = std::nextafter(1.0, 0.0);
  EXPECT_EQ(SampleOne(logits, AtTemperature(1, 0.0)).token, TokenId{3});
  EXPECT_EQ(SampleOne(logits, AtTemperature(1, almost_one)).token, TokenId{900});
  for (const float temperature : {1e-38f, 1e-45f}) {
    EXPECT_EQ(SampleOne(logits, AtTemperature(temperature, almost_one)).token, TokenId{3});
  }
  SampleRow top_p = AtTemperature(1, almost_one);
  top_p.top_p = 1e-6f;
  EXPECT_EQ(SampleOne(logits, top_p).token, TokenId{3});
  top_p.top_p = std::nextafter(1.0f, 0.0f);
  EXPECT_EQ(SampleOne(logits, top_p).token, TokenId{900});
  logits[5] = 3e38f;
  logits[6] = -3e38f;
  EXPECT_EQ(SampleOne(logits, AtTemperature(1, almost_one)).token, TokenId{5});
}

// Rows with every kind of list and wish, compared with the reference.
struct Mixed {
  std::vector<SampleRow> rows;
  std::vector<std::vector<TokenCount>> counts;
  std::vector<std::vector<TokenBias>> biases;
  std::vector<std::vector<TokenId>> banned;
};

Mixed MakeMixed(uint32_t num_rows, uint32_t vocab_size, Random& random) {
  Mixed mixed;
  mixed.counts.resize(num_rows);
  mixed.biases.resize(num_rows);
  mixed.banned.resize(num_rows);
  for (uint32_t i = 0; i < num_rows; ++i) {
    SampleRow row = i % 3 == 0 ? Greedy() : AtTemperature(0.4f + 0.1f * (i % 7), i / 50.0);
    row.logits_row = num_rows - 1 - i;
    const uint32_t stride = 1 + random.Below(9);
    for (uint32_t token = random.Below(9); i % 2 == 0 && token < vocab_size; token += stride) {
      mixed.counts[i].push_back({TokenId{token}, random.Below(4)});
      if (token % 5 == 0) mixed.biases[i].push_back({TokenId{token}, random.Normals(1, 3.0f)[0]});
      if (token % 7 == 0) mixed.banned[i].insert(mixed.banned[i].end(), 2, TokenId{token});
    }
    row.counts = mixed.counts[i].data();
    row.num_counts = static_cast<uint32_t>(mixed.counts[i].size());
    row.biases = mixed.biases[i].data();
    row.num_biases = static_cast<uint32_t>(mixed.biases[i].size());
    row.banned = mixed.banned[i].data();
    row.num_banned = static_cast<uint32_t>(mixed.banned[i].size());
    row.presence_penalty = 0.5f;
    row.frequency_penalty = -0.2f;
    row.repetition_penalty = 1.3f;
    row.top_k = i % 4 == 1 ? 20 : 0;
    row.top_p = i % 5 == 1 ? 0.9f : 1.0f;
    row.num_logprobs = static_cast<int32_t>(i % 6) * 5 - 5;
    if (i % 8 == 7) {
      row.draw = false;
      row.given = TokenId{random.Below(vocab_size)};
    }
    mixed.rows.push_back(row);
  }
  return mixed;
}

void ExpectLogprobs(const SampleRow& row, const std::vector<float>& logits,
                    const SampleResult& got) {
  const std::vector<double> raw(logits.begin(), logits.end());
  SampleResult want{};
  test::FillLogprobs(raw, got.token.value, row.num_logprobs, want);
  EXPECT_NEAR(got.logprob, want.logprob, 1e-5);
  EXPECT_EQ(got.rank, want.rank);
  for (int32_t i = 0; i < row.num_logprobs; ++i) {
    EXPECT_EQ(got.top_ids[i], want.top_ids[i]) << i;
    EXPECT_NEAR(got.top_logprobs[i], want.top_logprobs[i], 1e-5) << i;
  }
}

TEST(GpuSample, MixedRowsMatchTheReferenceAndDoNotDependOnCompany) {
  constexpr uint32_t kRows = 48;
  for (const uint32_t n : {333u, 4096u, 32003u}) {
    Random random(n);
    const Mixed mixed = MakeMixed(kRows, n, random);
    auto logits = random.Normals(size_t{kRows} * n, 3.0f);
    for (float& logit : logits) {  // ties, also among the largest
      if (random.Below(3) == 0) logit = std::min(8.0f, std::round(logit));
    }
    Sampler sampler(kRows, n);
    const auto together = sampler(logits, mixed.rows);
    Sampler single(kRows, n);
    for (uint32_t i = 0; i < kRows; ++i) {
      const SampleRow& row = mixed.rows[i];
      const auto begin = logits.begin() + size_t{row.logits_row} * n;
      const std::vector<float> of_row(begin, begin + n);
      SCOPED_TRACE(Describe(row, n) + " row " + std::to_string(i));
      if (!row.draw) {
        EXPECT_EQ(together[i].token, row.given);
      } else if (row.temperature == 0) {
        EXPECT_EQ(together[i].token, test::ReferenceSample(row, of_row).token);
      } else {
        Draws(row, of_row).Expect(row.uniform, together[i].token, "");
      }
      if (row.num_logprobs >= 0) ExpectLogprobs(row, of_row, together[i]);
      const SampleResult alone = single(logits, {row})[0];
      EXPECT_EQ(std::memcmp(&alone, &together[i], sizeof alone), 0);
    }
  }
}

TEST(GpuSample, LogprobsOfRowsWithManyEqualLogits) {
  for (const uint32_t n : {15u, 20000u}) {
    std::vector<float> logits(n, 1.0f);
    logits[n / 2] = -kInf;
    SampleRow row = Greedy();
    row.num_logprobs = 20;
    const SampleResult result = SampleOne(logits, row);
    EXPECT_EQ(result.token, TokenId{0});
    EXPECT_EQ(result.rank, 1u);
    const auto found = std::min(20u, n - 1);
    for (uint32_t i = 0; i < found; ++i) {
      EXPECT_EQ(result.top_ids[i].value, i < n / 2 ? i : i + 1);
      EXPECT_NEAR(result.top_logprobs[i], -std::log(n - 1.0), 1e-5);
    }
    for (uint32_t i = found; i < 20; ++i) EXPECT_EQ(result.top_ids[i], TokenId{0});
  }
}

TEST(GpuSample, TwoCallsMayBeInFlight) {
  constexpr uint32_t kVocab = 3000;
  Sampler sampler(2, kVocab);
  std::vector<float> logits(2 * kVocab);
  logits[1234] = 1;
  logits[kVocab + 2345] = 1;
  KVS_GPU(
      Memcpy(sampler.logits(), logits.data(), logits.size() * 4, KVS_GPU_NAME(MemcpyHostToDevice)));
  SampleRow row = Greedy();
  row.num_logprobs = 1;
  SampleRow other = AtTemperature(1e-3f, 0.5);
  other.logits_row = 1;
  std::vector<SampleResult> results(2);
  const SampleParams first{sampler.logits(), &row, &results[0], 1, kVocab};
  const SampleParams second{sampler.logits(), &other, &results[1], 1, kVocab};
  sampler.op().Start(first, sampler.launch());
  sampler.op().Start(second, sampler.launch());
  sampler.op().Finish(first);
  sampler.op().Start(first, sampler.launch());
  sampler.op().Finish(second);
  sampler.op().Finish(first);
  EXPECT_EQ(results[0].token, TokenId{1234});
  EXPECT_EQ(results[0].top_ids[0], TokenId{1234});
  EXPECT_EQ(results[1].token, TokenId{2345});
}

// Lists that together are beyond the buffer: several batches make up one call.
TEST(GpuSample, ListsOfManyRowsGoInBatches) {
  constexpr uint32_t kRows = 12, kVocab = 32000;
  std::vector<TokenCount> counts;
  for (uint32_t i = 0; i < kVocab; ++i) counts.push_back({TokenId{i}, 1});
  std::vector<SampleRow> rows;
  std::vector<float> logits(size_t{kRows} * kVocab);
  for (uint32_t i = 0; i < kRows; ++i) {
    SampleRow row = Greedy();
    row.logits_row = i;
    row.counts = counts.data();
    row.num_counts = kVocab - i % 2;
    row.presence_penalty = 1;
    row.num_logprobs = i % 3 == 0 ? 2 : -1;
    logits[size_t{i} * kVocab + kVocab - 1] = 0.5f;
    logits[size_t{i} * kVocab + i] = 2.0f;
    rows.push_back(row);
  }
  const auto results = Sampler(kRows, kVocab)(logits, rows);
  for (uint32_t i = 0; i < kRows; ++i) {
    // Without its penalty the last token is as likely as ever; the favourite stays ahead of it.
    EXPECT_EQ(results[i].token, TokenId{i}) << i;
    if (rows[i].num_logprobs >= 0) {
      EXPECT_EQ(results[i].top_ids[0], TokenId{i}) << i;
      EXPECT_EQ(results[i].top_ids[1], TokenId{kVocab - 1}) << i;
    }
  }
}

}  // namespace
}  // namespace kvs::gpu
