#include <algorithm>
#include <numeric>

#include "kernels/kernel_test_util.h"
#include "reference/naive.h"

namespace kvs {
namespace {

constexpr uint32_t kExperts = 6, kTopK = 2, kHidden = 48, kInner = 40;

BackendLimits LimitsFor(uint32_t max_tokens) {
  return {
      .max_num_seqs = 1,
      .max_num_batched_tokens = max_tokens,
      .max_num_logits_rows = 1,
      .max_model_len = 16,
      .num_heads = 1,
      .num_kv_heads = 1,
      .head_dim = 8,
      .hidden_size = kHidden,
      .intermediate_size = 8,
      .vocab_size = 8,
      .experts = {.num_experts = kExperts, .num_per_token = kTopK, .intermediate_size = kInner}};
}

TEST(RouteExperts, ChoosesTheLargestAndWeighsThemBySoftmax) {
  auto backend = MakeBackend("auto", 2);
  constexpr uint32_t kRows = 100;
  const auto logits = Random(3).Normals(kRows * kExperts, 2.0f);
  for (const bool normalize : {false, true}) {
    std::vector<uint32_t> ids(kRows * kTopK);
    std::vector<float> weights(kRows * kTopK);
    backend->RouteExperts(
        {logits.data(), ids.data(), weights.data(), kRows, kExperts, kTopK, normalize});
    for (uint32_t row = 0; row < kRows; ++row) {
      const float* at = &logits[row * kExperts];
      std::vector<uint32_t> order(kExperts);
      std::iota(order.begin(), order.end(), 0u);
      std::stable_sort(order.begin(), order.end(),
                       [&](uint32_t a, uint32_t b) { return at[a] > at[b]; });
      double sum = 0;
      for (uint32_t i = 0; i < (normalize ? kTopK : kExperts); ++i)
        sum += std::exp(double{at[order[i]]});
      for (uint32_t i = 0; i < kTopK; ++i) {
        EXPECT_EQ(ids[row * kTopK + i], order[i]);
        EXPECT_NEAR(weights[row * kTopK + i], std::exp(double{at[order[i]]}) / sum, 1e-6);
      }
    }
  }
}

TEST(RouteExperts, OfEqualLogitsTheLowerIndexComesFirst) {
  auto backend = MakeBackend("auto", 1);
  const std::vector<float> logits = {1, 3, 3, 1, 3, 0};
  std::vector<uint32_t> ids(4);
  std::vector<float> weights(4);
  backend->RouteExperts({logits.data(), ids.data(), weights.data(), 1, kExperts, 4, true});
  EXPECT_EQ(ids, (std::vector<uint32_t>{1, 2, 4, 0}));
  EXPECT_FLOAT_EQ(weights[0], weights[2]);
}

// Experts of random weights.
struct Experts {
  Experts(Backend& backend, DType dtype, uint32_t out, uint32_t in, uint64_t seed) {
    Random random(seed);
    for (uint32_t e = 0; e < kExperts; ++e) {
      values.push_back(random.Normals(size_t{out} * in, 0.2f));
      for (float& value : values.back()) {
        value = static_cast<float>(naive::RoundTo(value, dtype));
      }
      const HostMatrix matrix{values.back().data(), DType::kF32, out, in};
      packed.push_back(std::move(*backend.PackLinear({&matrix, 1}, dtype)));
      pointers.push_back(packed.back().get());
    }
  }
  std::vector<std::vector<float>> values;
  std::vector<std::unique_ptr<LinearWeight>> packed;
  std::vector<const LinearWeight*> pointers;
};

TEST(ExpertLinear, MatchesReferenceAndRowsAreIndependent) {
  // One expert has no row, another has more than fit one block of rows.
  constexpr uint32_t kTokens = 700, kRows = kTokens * kTopK;
  std::vector<uint32_t> ids;
  Random random(8);
  for (uint32_t i = 0; i < kRows; ++i) ids.push_back(i % 2 == 0 ? 4 : random.Below(kExperts - 2));
  for (const std::string& set : InstructionSets()) {
    auto backend = MakeBackend(set, 3);
    ASSERT_TRUE(backend->Reserve(LimitsFor(kTokens)));
    const Experts experts(*backend, DType::kF32, kInner, kHidden, 5);
    for (const uint32_t rows_per_x : {1u, kTopK}) {
      const auto x = random.Normals(size_t{kRows} / rows_per_x * kHidden);
      std::vector<float> out(size_t{kRows} * kInner);
      backend->ExpertLinear(
          {x.data(), experts.pointers.data(), ids.data(), out.data(), kRows, rows_per_x, kExperts});
      std::vector<double> want;
      for (uint32_t i = 0; i < kRows; ++i) {
        const std::span<const float> row(&x[size_t{i} / rows_per_x * kHidden], kHidden);
        const auto result = naive::Linear(row, experts.values[ids[i]], 1, kHidden, kInner);
        want.insert(want.end(), result.begin(), result.end());
      }
      EXPECT_LT(RelativeError(out, want), 1e-5) << set << rows_per_x;

      std::vector<float> alone(kInner);
      for (const uint32_t row : {0u, 1u, 777u, kRows - 1}) {
        backend->ExpertLinear({&x[size_t{row} / rows_per_x * kHidden], experts.pointers.data(),
                               &ids[row], alone.data(), 1, 1, kExperts});
        EXPECT_TRUE(SameBits(alone.data(), &out[size_t{row} * kInner], kInner)) << set << row;
      }
    }
  }
}

TEST(CombineExperts, SumsByWeight) {
  auto backend = MakeBackend("auto", 2);
  constexpr uint32_t kRows = 40, kDim = 33;
  Random random(9);
  const auto in = random.Normals(kRows * kTopK * kDim);
  const auto weights = random.Normals(kRows * kTopK);
  std::vector<float> out(kRows * kDim);
  backend->CombineExperts({in.data(), weights.data(), out.data(), kRows, kTopK, kDim});
  std::vector<double> want(out.size());
  for (uint32_t row = 0; row < kRows; ++row) {
    for (uint32_t k = 0; k < kTopK; ++k) {
      for (uint32_t i = 0; i < kDim; ++i) {
        want[row * kDim + i] += double{weights[row * kTopK + k]} * in[(row * kTopK + k) * kDim + i];
      }
    }
  }
  EXPECT_LT(RelativeError(out, want), 1e-5);
}

}  // namespace
}  // namespace kvs
