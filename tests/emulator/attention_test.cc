// Decode and prefill attention in the emulator, against float64: every dtype, head size and way of
// cutting, on few positions.
#include "gpu/gpu_memory.h"
#include "gpu/paged_decode.h"
#include "gpu/paged_prefill.h"
#include "gpu/paged_problem.h"

namespace kvs::gpu {
namespace {

constexpr KvCacheDType kDTypes[] = {KvCacheDType::kBf16, KvCacheDType::kF16, KvCacheDType::kF8E4M3,
                                    KvCacheDType::kF8E5M2};

void ExpectDecode(const PagedCase& c, const std::vector<PagedSeq>& seqs) {
  SCOPED_TRACE(Describe(c));
  const PagedProblem problem(c, seqs, c.head_dim + c.group);
  Launch launch = TestLaunch(c.act);
  PagedDecode decode;
  ASSERT_TRUE(decode.Reserve(problem.Limits(), *launch.facts));
  decode.Plan(problem.Params(), launch);
  const auto want = problem.Want([](const PagedSeq& seq) { return seq.query_len != 1; });
  // Twice: what blocks leave for each other must have been taken; loading as in order, and as
  // early.
  for (const bool dependent : {false, true}) {
    launch.dependent = dependent;
    problem.ClearOut();
    decode.Run(problem.Params(), nullptr, launch);
    auto got = problem.Out();
    for (size_t i = 0; i < got.size(); ++i) {
      if (want[i] == 0.0) got[i] = 0.0f;  // rows of sequences that are not decoded
    }
    EXPECT_LT(RelativeRms(got, want), 6e-3);
  }
}

std::vector<float> Prefill(const PagedProblem& problem, const PagedAttentionParams& params,
                           const Launch& launch) {
  const uint32_t group = params.num_heads / params.kv.layout.num_kv_heads;
  const DeviceArray<PrefillTile> tiles(
      MaxPrefillTiles(PrefillPath::kPortable, group, params.num_tokens, params.num_seqs));
  const DeviceArray<uint32_t> count(1);
  const PrefillTiles plan{tiles.data(), count.data(), PrefillPath::kPortable};
  PlanPrefill(params, 1, plan, launch);
  PagedPrefill(params, plan, launch);
  return problem.Out();
}

void ExpectPrefill(const PagedCase& c, const std::vector<PagedSeq>& seqs) {
  SCOPED_TRACE(Describe(c));
  const PagedProblem problem(c, seqs, c.head_dim + c.group);
  const auto got = Prefill(problem, problem.Params(), TestLaunch(c.act));
  EXPECT_LT(RelativeRms(got, problem.Want([](const PagedSeq&) { return false; })), 6e-3);
}

TEST(EmulatedDecode, MatchesReferenceForEveryDtypeAndHeadSize) {
  for (const KvCacheDType dtype : kDTypes) {
    for (const uint32_t head_dim : {64u, 128u, 256u}) {
      ExpectDecode({.dtype = dtype, .head_dim = head_dim, .num_kv_heads = 1},
                   {{1, 1}, {17, 1}, {150, 1}});
    }
  }
}

TEST(EmulatedDecode, MatchesReferenceForGroupsBlocksAndWindows) {
  for (const uint32_t group : {1u, 7u, 16u}) {
    ExpectDecode({.head_dim = 64, .num_kv_heads = 1, .group = group}, {{70, 1}, {5, 1}});
  }
  for (const uint32_t block_size : {32u, 64u}) {
    ExpectDecode({.act = DType::kF16, .head_dim = 64, .block_size = block_size},
                 {{130, 1}, {9, 1}});
  }
  for (const uint32_t window : {1u, 16u, 100u}) {
    ExpectDecode({.dtype = KvCacheDType::kF8E4M3, .head_dim = 64, .window = window},
                 {{1, 1}, {101, 1}, {140, 1}});
  }
}

TEST(EmulatedDecode, JoinsPartsOfLongSequencesAndSkipsPrefill) {
  ExpectDecode({.head_dim = 64, .num_kv_heads = 1}, {{900, 1}});
  ExpectDecode({.head_dim = 64}, {{90, 20}, {33, 1}, {300, 1}});
}

TEST(EmulatedPrefill, MatchesReferenceForEveryDtypeAndHeadSize) {
  for (const KvCacheDType dtype : kDTypes) {
    for (const uint32_t head_dim : {64u, 128u, 256u}) {
      ExpectPrefill({.dtype = dtype, .head_dim = head_dim, .num_kv_heads = 1},
                    {{1, 1}, {33, 17}, {80, 3}});
    }
  }
}

TEST(EmulatedPrefill, MatchesReferenceForGroupsBlocksAndWindows) {
  for (const uint32_t group : {1u, 3u, 16u}) {
    ExpectPrefill({.head_dim = 64, .num_kv_heads = 1, .group = group}, {{40, 20}});
  }
  ExpectPrefill({.act = DType::kF16, .head_dim = 64, .num_kv_heads = 1, .block_size = 64},
                {{100, 40}});
  for (const uint32_t window : {1u, 16u, 50u}) {
    ExpectPrefill({.head_dim = 64, .num_kv_heads = 1, .window = window}, {{64, 20}, {90, 2}});
  }
}

TEST(EmulatedPrefill, SplitTilesMatchReference) {
  for (const KvCacheDType dtype : {KvCacheDType::kBf16, KvCacheDType::kF8E4M3}) {
    for (const uint32_t window : {0u, 500u}) {
      const PagedCase c{.dtype = dtype, .head_dim = 64, .num_kv_heads = 1, .window = window};
      SCOPED_TRACE(Describe(c));
      const PagedProblem problem(c, {{600, 5}, {30, 30}}, 7);
      const Launch launch = TestLaunch(c.act);
      const PrefillMemory memory(problem.Params(), PrefillPath::kPortable, 6);
      PlanPrefill(problem.Params(), 1, memory.tiles(), launch);
      PagedPrefill(problem.Params(), memory.tiles(), launch);
      EXPECT_GT(memory.ToHost().size(), 3u) << "nothing was split";
      const auto want = problem.Want([](const PagedSeq&) { return false; });
      EXPECT_LT(RelativeRms(problem.Out(), want), 6e-3);
    }
  }
}

TEST(EmulatedPrefill, RowDoesNotDependOnChunks) {
  const PagedCase c{.dtype = KvCacheDType::kF8E4M3, .head_dim = 64, .num_kv_heads = 1, .group = 2};
  const PagedProblem problem(c, {{90, 90}}, 11);
  const Launch launch = TestLaunch(c.act);
  const auto want = Prefill(problem, problem.Params(), launch);
  problem.ClearOut();
  std::vector<float> got;
  for (uint32_t at = 0; at < 90; at += 13) {
    const uint32_t end = std::min(at + 13, 90u);
    const DeviceArray<uint32_t> starts(std::vector<uint32_t>{at, end});
    const DeviceArray<uint32_t> lens(std::vector<uint32_t>{end});
    auto params = problem.Params();
    params.query_start_loc = starts.data();
    params.seq_lens = lens.data();
    got = Prefill(problem, params, launch);
  }
  EXPECT_EQ(got, want);
}

}  // namespace
}  // namespace kvs::gpu
