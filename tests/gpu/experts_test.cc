#include "gpu/experts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "gpu/gpu_test_util.h"
#include "gpu/gpu_weight.h"

namespace kvs::gpu {
namespace {

constexpr DType kActs[] = {DType::kBf16, DType::kF16};

ExpertOps ReservedOps(uint32_t num_tokens, uint32_t num_experts, uint32_t top_k) {
  BackendLimits limits{};
  limits.max_num_batched_tokens = num_tokens;
  limits.experts.num_experts = num_experts;
  limits.experts.num_per_token = top_k;
  ExpertOps ops;
  EXPECT_TRUE(ops.Reserve(limits));
  return ops;
}

TEST(GpuExperts, RoutesToTheMostLikelyTheLowerIndexFirst) {
  for (const auto& [num_experts, top_k] : {std::pair{8u, 2u}, {60u, 4u}, {128u, 8u}, {256u, 32u}}) {
    constexpr uint32_t kRows = 37;
    auto logits = Random(num_experts).Normals(size_t{kRows} * num_experts, 2.0f);
    for (float& logit : logits) logit = std::round(logit * 4) / 4;  // equal ones among them
    const DeviceArray<float> device_logits(logits);
    for (const bool normalize : {false, true}) {
      const DeviceArray<uint32_t> ids(kRows * top_k);
      const DeviceArray<float> weights(kRows * top_k);
      const ExpertOps ops = ReservedOps(kRows, num_experts, top_k);
      ops.Route({.logits = device_logits.data(),
                 .expert_ids = ids.data(),
                 .expert_weights = weights.data(),
                 .num_rows = kRows,
                 .num_experts = num_experts,
                 .top_k = top_k,
                 .normalize = normalize},
                TestLaunch(DType::kBf16));
      const auto got_ids = ids.ToHost();
      const auto got_weights = weights.ToHost();
      for (uint32_t row = 0; row < kRows; ++row) {
        const float* const of_row = logits.data() + size_t{row} * num_experts;
        std::vector<uint32_t> order(num_experts);
        std::iota(order.begin(), order.end(), 0u);
        std::stable_sort(order.begin(), order.end(),
                         [&](uint32_t a, uint32_t b) { return of_row[a] > of_row[b]; });
        double sum = 0;
        for (uint32_t i = 0; i < (normalize ? top_k : num_experts); ++i) {
          sum += std::exp(static_cast<double>(of_row[order[i]]));
        }
        for (uint32_t k = 0; k < top_k; ++k) {
          ASSERT_EQ(got_ids[row * top_k + k], order[k]) << num_experts << " row " << row;
          EXPECT_NEAR(got_weights[row * top_k + k],
                      std::exp(static_cast<double>(of_row[order[k]])) / sum, 1e-6);
        }
      }
    }
  }
}

// Experts that share one array of device memory.
struct Experts {
  Experts(uint32_t count, uint32_t out, uint32_t in, DType dtype)
      : values(Encode16(Random(count + out).Normals(size_t{count} * out * in), dtype)),
        memory(values) {
    for (uint32_t i = 0; i < count; ++i) {
      weights.push_back(std::make_unique<GpuWeight>());
      GpuWeight& weight = *weights.back();
      weight.out_features = out;
      weight.in_features = in;
      weight.dtype = dtype;
      weight.data = DeviceBuffer(memory.data() + size_t{i} * out * in, size_t{out} * in * 2,
                                 [](void*, size_t) {});
      pointers.push_back(&weight);
    }
  }
  std::vector<uint16_t> values;
  DeviceArray<uint16_t> memory;
  std::vector<std::unique_ptr<GpuWeight>> weights;
  std::vector<const LinearWeight*> pointers;
};

struct LinearCase {
  uint32_t num_experts, num_tokens, top_k, out, in;
  bool x_is_shared;  // by the top_k rows of a token
  bool is_skewed;    // most rows go to one expert, several to none
};

class GpuExpertLinear : public ::testing::TestWithParam<LinearCase> {};

TEST_P(GpuExpertLinear, IsTheProductWithTheRowsExpertBitForBitInAnyCompany) {
  const LinearCase& c = GetParam();
  const uint32_t num_rows = c.num_tokens * c.top_k;
  const uint32_t rows_per_x = c.x_is_shared ? c.top_k : 1;
  Random random(c.out);
  std::vector<uint32_t> ids(num_rows);
  for (uint32_t& id : ids) id = c.is_skewed && random.Below(4) ? 1 : random.Below(c.num_experts);
  const auto x = random.Normals(size_t{num_rows / rows_per_x} * c.in);
  for (const DType act : kActs) {
    const Experts experts(c.num_experts, c.out, c.in, act);
    const auto x16 = Encode16(x, act);
    const DeviceArray<uint16_t> device_x(x16);
    const DeviceArray<uint32_t> device_ids(ids);
    const DeviceArray<uint16_t> out(size_t{num_rows} * c.out);
    const ExpertOps ops = ReservedOps(c.num_tokens, c.num_experts, c.top_k);
    ExpertLinearParams params{.x = device_x.data(),
                              .experts = experts.pointers.data(),
                              .expert_ids = device_ids.data(),
                              .out = out.data(),
                              .num_rows = num_rows,
                              .rows_per_x = rows_per_x,
                              .num_experts = c.num_experts};
    ops.Linear(params, TestLaunch(act));
    const auto got = out.ToHost();

    std::vector<double> want;
    for (uint32_t row = 0; row < num_rows; ++row) {
      const uint16_t* const weight = experts.values.data() + size_t{ids[row]} * c.out * c.in;
      const uint16_t* const of_x = x16.data() + size_t{row / rows_per_x} * c.in;
      for (uint32_t o = 0; o < c.out; ++o) {
        double sum = 0;
        for (uint32_t i = 0; i < c.in; ++i) {
          sum += static_cast<double>(Decode16(weight[size_t{o} * c.in + i], act)) *
                 Decode16(of_x[i], act);
        }
        want.push_back(sum);
      }
    }
    EXPECT_LT(RelativeRms(Decode16(got, act), want), 4e-3) << ToString(act);

    // The last token alone.
    const uint32_t first = num_rows - c.top_k;
    const DeviceArray<uint16_t> alone(size_t{c.top_k} * c.out);
    params.x = device_x.data() + size_t{first / rows_per_x} * c.in;
    params.expert_ids = device_ids.data() + first;
    params.out = alone.data();
    params.num_rows = c.top_k;
    ops.Linear(params, TestLaunch(act));
    EXPECT_EQ(alone.ToHost(),
              std::vector(got.begin() + static_cast<ptrdiff_t>(size_t{first} * c.out), got.end()))
        << ToString(act);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, GpuExpertLinear,
                         ::testing::Values(LinearCase{8, 1, 2, 96, 64, true, false},
                                           LinearCase{8, 5, 2, 100, 72, false, false},
                                           LinearCase{8, 40, 2, 128, 256, true,
                                                      true},  // tiles of many rows
                                           LinearCase{128, 33, 8, 192, 128, true, false},
                                           LinearCase{4, 200, 2, 64, 136, false, true},
                                           LinearCase{256, 3, 8, 8, 8, true, false}));

TEST(GpuExperts, CombinesInTheOrderOfThePlaces) {
  constexpr uint32_t kRows = 9, kTopK = 3, kDim = 520;
  const auto weights = Random(3).Normals(kRows * kTopK);
  for (const DType act : kActs) {
    const auto in = Encode16(Random(4).Normals(size_t{kRows} * kTopK * kDim), act);
    const DeviceArray<uint16_t> device_in(in), out(size_t{kRows} * kDim);
    const DeviceArray<float> device_weights(weights);
    ExpertOps().Combine({.in = device_in.data(),
                         .expert_weights = device_weights.data(),
                         .out = out.data(),
                         .num_rows = kRows,
                         .top_k = kTopK,
                         .dim = kDim},
                        TestLaunch(act));
    std::vector<double> want;
    for (uint32_t row = 0; row < kRows; ++row) {
      for (uint32_t i = 0; i < kDim; ++i) {
        double sum = 0;
        for (uint32_t k = 0; k < kTopK; ++k) {
          sum += static_cast<double>(weights[row * kTopK + k]) *
                 Decode16(in[(size_t{row} * kTopK + k) * kDim + i], act);
        }
        want.push_back(sum);
      }
    }
    EXPECT_LT(RelativeRms(Decode16(out.ToHost(), act), want), 4e-3) << ToString(act);
  }
}

}  // namespace
}  // namespace kvs::gpu
