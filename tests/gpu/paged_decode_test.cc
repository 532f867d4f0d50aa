#include "gpu/paged_decode.h"

#include <cmath>
#include <set>
#include <vector>

#include "gpu/paged_problem.h"
#include "gpu/rope_problem.h"

namespace kvs::gpu {
namespace {

constexpr KvCacheDType kDTypes[] = {KvCacheDType::kBf16, KvCacheDType::kF16, KvCacheDType::kF8E4M3,
                                    KvCacheDType::kF8E5M2};

void ExpectMatches(const PagedCase& c, const std::vector<PagedSeq>& seqs, uint64_t seed,
                   const DeviceFacts* facts = nullptr) {
  SCOPED_TRACE(Describe(c) + " seed " + std::to_string(seed));
  const PagedProblem problem(c, seqs, seed);
  Launch launch = TestLaunch(c.act);
  if (facts != nullptr) launch.facts = facts;
  PagedDecode decode;
  ASSERT_TRUE(decode.Reserve(problem.Limits(), *launch.facts));
  decode.Plan(problem.Params(), launch);
  const auto is_not_decode = [](const PagedSeq& seq) { return seq.query_len != 1; };
  const auto want = problem.Want(is_not_decode);
  // Twice: what blocks leave for each other must have been taken. Once in order, and once as behind
  // a kernel that may still run, where the device can.
  for (const bool dependent : {false, true}) {
    launch.dependent = dependent && (launch.facts->major == 0 || launch.facts->major >= 9);
    decode.Run(problem.Params(), nullptr, launch);
    auto got = problem.Out();
    for (size_t i = 0; i < got.size(); ++i) {
      if (want[i] == 0.0) got[i] = 0.0f;  // rows of sequences that are not decoded
    }
    EXPECT_LT(RelativeRms(got, want), 6e-3);
  }
}

TEST(GpuPagedDecode, MatchesReferenceForEveryShape) {
  for (const KvCacheDType dtype : kDTypes) {
    for (const uint32_t head_dim : {64u, 128u, 256u}) {
      for (const uint32_t group : {1u, 2u, 4u, 7u, 8u, 12u, 16u}) {
        ExpectMatches({.dtype = dtype, .head_dim = head_dim, .group = group},
                      {{1, 1}, {16, 1}, {17, 1}, {63, 1}, {64, 1}, {65, 1}, {700, 1}}, head_dim);
      }
    }
  }
}

TEST(GpuPagedDecode, MatchesReferenceForEveryBlockSizeAndActivation) {
  for (const KvCacheDType dtype : kDTypes) {
    for (const DType act : {DType::kBf16, DType::kF16}) {
      for (const uint32_t block_size : {16u, 32u, 64u}) {
        ExpectMatches({.dtype = dtype, .act = act, .block_size = block_size},
                      {{300, 1}, {5, 1}, {129, 1}}, block_size);
      }
    }
  }
}

TEST(GpuPagedDecode, MatchesReferenceWithManySequencesAndLongOnes) {
  for (const KvCacheDType dtype : {KvCacheDType::kBf16, KvCacheDType::kF8E4M3}) {
    Random random(3);
    std::vector<PagedSeq> ragged;
    for (int i = 0; i < 200; ++i) ragged.push_back({1 + random.Below(400), 1});
    ExpectMatches({.dtype = dtype, .num_kv_heads = 1}, ragged, 7);
    ExpectMatches({.dtype = dtype, .num_kv_heads = 1}, {{20000, 1}}, 8);
    ExpectMatches({.dtype = dtype}, {{3, 1}, {5000, 1}, {2, 1}, {1, 1}, {3000, 1}}, 9);
  }
}

// Devices whose blocks have less shared memory get fewer stages, then fewer warps.
TEST(GpuPagedDecode, MatchesReferenceInEveryShape) {
  std::set<std::pair<uint32_t, uint32_t>> shapes;
  for (const size_t shared_bytes : {65536u, 101376u, 167936u, 232448u}) {
    DeviceFacts facts = *TestLaunch(DType::kBf16).facts;
    if (shared_bytes > facts.max_shared_bytes) continue;
    facts.max_shared_bytes = shared_bytes;
    for (const KvCacheDType dtype : kDTypes) {
      for (const uint32_t head_dim : {64u, 128u, 256u}) {
        for (const uint32_t group : {4u, 16u}) {
          const PagedCase c{.dtype = dtype, .head_dim = head_dim, .group = group};
          const auto shape = ChooseDecodeShape(dtype, head_dim, group, UINT32_MAX, facts);
          ASSERT_TRUE(shape.has_value());
          EXPECT_LE(shape->shared_bytes + kDecodeSharedReserve, shared_bytes);
          shapes.insert({shape->num_warps, shape->num_stages});
          ExpectMatches(c, {{700, 1}, {1, 1}, {65, 1}}, head_dim + group, &facts);
          std::vector<PagedSeq> many;
          for (uint32_t i = 0; i < 70; ++i) many.push_back({1 + 3 * i, 1});
          ExpectMatches(c, many, head_dim + group, &facts);
        }
      }
    }
  }
  for (const auto& [num_warps, num_stages] : {std::pair(4u, 3u), {4u, 2u}, {2u, 3u}, {1u, 2u}}) {
    EXPECT_TRUE(shapes.contains({num_warps, num_stages})) << num_warps << " warps";
  }
}

// Blocks wait for each other's words: also for those that are not numbers.
TEST(GpuPagedDecode, JoinsPartsThatAreNotNumbers) {
  for (const KvCacheDType dtype : {KvCacheDType::kBf16, KvCacheDType::kF8E4M3}) {
    const PagedCase c{.dtype = dtype};
    const PagedProblem problem(c, {{5000, 1}}, 1);
    const Launch launch = TestLaunch(c.act);
    PagedDecode decode;
    ASSERT_TRUE(decode.Reserve(problem.Limits(), *launch.facts));
    decode.Plan(problem.Params(), launch);
    const DeviceArray<float> nans(std::vector<float>(c.num_kv_heads, std::nanf("")));
    PagedAttentionParams broken = problem.Params();
    broken.kv.k_scale = nans.data();
    decode.Run(broken, nullptr, launch);
    for (const float value : problem.Out()) EXPECT_TRUE(std::isnan(value));
    decode.Run(problem.Params(), nullptr, launch);
    EXPECT_LT(RelativeRms(problem.Out(), problem.Want([](const PagedSeq&) { return false; })),
              6e-3);
  }
}

TEST(GpuPagedDecode, SkipsSequencesWithSeveralNewTokens) {
  ExpectMatches({}, {{90, 20}, {33, 1}, {70, 70}, {400, 1}, {12, 2}}, 5);
  ExpectMatches({.dtype = KvCacheDType::kF8E4M3}, {{33, 1}, {90, 20}}, 6);
}

TEST(GpuPagedDecode, HonoursTheWindow) {
  for (const uint32_t window : {1u, 16u, 64u, 100u, 4096u}) {
    ExpectMatches({.window = window}, {{1, 1}, {64, 1}, {100, 1}, {101, 1}, {777, 1}}, window);
    ExpectMatches({.dtype = KvCacheDType::kF8E4M3, .window = window}, {{300, 1}, {64, 1}}, window);
  }
}

TEST(GpuPagedDecode, DoesTheWorkOfRope) {
  for (const KvCacheDType dtype : kDTypes) {
    for (const uint32_t head_dim : {64u, 128u, 256u}) {
      for (const uint32_t group : {1u, 4u, 7u, 16u}) {
        for (const bool dependent : {false, true}) {
          Launch launch = TestLaunch(group == 7 ? DType::kF16 : DType::kBf16);
          launch.dependent = dependent && launch.facts->major >= 9;
          const PagedCase c{
              .dtype = dtype, .act = launch.act, .head_dim = head_dim, .group = group};
          ExpectDecodeDoesRope(c,
                               {{1, 1}, {16, 1}, {17, 1}, {1, 1, true}, {64, 1}, {65, 1}, {700, 1}},
                               {.has_bias = group != 4, .has_norms = dependent}, launch);
        }
      }
    }
    for (const uint32_t block_size : {32u, 64u}) {
      for (const uint32_t window : {0u, 1u, 100u}) {
        ExpectDecodeDoesRope({.dtype = dtype, .block_size = block_size, .window = window},
                             {{300, 1}, {5, 1}, {129, 1}, {5000, 1}, {96, 1}}, {},
                             TestLaunch(DType::kBf16));
      }
    }
    std::vector<PagedSeq> many;
    for (uint32_t i = 0; i < 150; ++i) many.push_back({1 + 7 * i, 1});
    ExpectDecodeDoesRope({.dtype = dtype}, many, {.has_bias = true}, TestLaunch(DType::kBf16));
  }
}

}  // namespace
}  // namespace kvs::gpu
