#include "gpu/paged_prefill.h"

#include <map>
#include <set>

#include "gpu/paged_problem.h"

namespace kvs::gpu {
namespace {

constexpr KvCacheDType kDTypes[] = {KvCacheDType::kBf16, KvCacheDType::kF16, KvCacheDType::kF8E4M3,
                                    KvCacheDType::kF8E5M2};

std::string Describe(PrefillPath path, const PagedCase& c) {
  return (path == PrefillPath::kHopper ? "hopper " : "portable ") + Describe(c);
}

// The paths that serve this head_dim here.
std::vector<PrefillPath> Paths(const PagedCase& c) {
  const KvLayout layout{1, c.num_kv_heads, c.head_dim, c.block_size, c.dtype};
  std::vector<PrefillPath> paths = {PrefillPath::kPortable};
  const PrefillPath best = BestPrefillPath(layout, *TestLaunch(c.act).facts);
  if (best != PrefillPath::kPortable) paths.push_back(best);
  return paths;
}

// One step's tiles in device memory.
class Plan : public PrefillMemory {
 public:
  Plan(const PagedAttentionParams& params, PrefillPath path, uint32_t min_new_tokens,
       const Launch& launch, uint32_t split_target = 0)
      : PrefillMemory(params, path, split_target) {
    PlanPrefill(params, min_new_tokens, tiles(), launch);
  }
};

void ExpectMatches(const PagedCase& c, const std::vector<PagedSeq>& seqs, uint64_t seed,
                   uint32_t min_new_tokens = 1, uint32_t split_target = 0) {
  const PagedProblem problem(c, seqs, seed);
  const auto want =
      problem.Want([&](const PagedSeq& seq) { return seq.query_len < min_new_tokens; });
  for (const PrefillPath path : Paths(c)) {
    SCOPED_TRACE(Describe(path, c));
    const Launch launch = TestLaunch(c.act);
    problem.ClearOut();
    const Plan plan(problem.Params(), path, min_new_tokens, launch, split_target);
    PagedPrefill(problem.Params(), plan.tiles(), launch);
    if (split_target != 0) {
      const auto tiles = plan.ToHost();
      EXPECT_TRUE(std::any_of(tiles.begin(), tiles.end(), [](const PrefillTile& tile) {
        return tile.part != PrefillTile::kWhole;
      })) << "nothing was split";
    }
    auto got = problem.Out();
    size_t at = 0;
    for (const PagedSeq& seq : seqs) {
      const size_t end = at + seq.query_len * problem.OutLen();
      for (; at < end && seq.query_len < min_new_tokens; ++at) {
        ASSERT_TRUE(std::isnan(got[at])) << "a row that was to be left alone";
        got[at] = 0.0f;
      }
      at = end;
    }
    const bool some_computed =
        std::any_of(want.begin(), want.end(), [](double x) { return x != 0; });
    if (some_computed) {
      EXPECT_LT(RelativeRms(got, want), 6e-3);
    }
  }
}

TEST(GpuPagedPrefill, MatchesReferenceForEveryShape) {
  for (const KvCacheDType dtype : kDTypes) {
    for (const uint32_t head_dim : {64u, 128u, 256u}) {
      for (const uint32_t group : {1u, 2u, 3u, 4u, 7u, 8u, 12u, 16u}) {
        ExpectMatches({.dtype = dtype, .head_dim = head_dim, .num_kv_heads = 1, .group = group},
                      {{1, 1}, {15, 15}, {64, 64}, {129, 20}, {65, 65}, {300, 3}}, head_dim);
      }
    }
  }
}

TEST(GpuPagedPrefill, MatchesReferenceForEveryBlockSizeAndActivation) {
  for (const KvCacheDType dtype : kDTypes) {
    for (const DType act : {DType::kBf16, DType::kF16}) {
      for (const uint32_t block_size : {16u, 32u, 64u}) {
        ExpectMatches({.dtype = dtype, .act = act, .block_size = block_size},
                      {{200, 40}, {5, 5}, {129, 129}}, block_size);
      }
    }
  }
}

TEST(GpuPagedPrefill, MatchesReferenceOverLongContexts) {
  for (const KvCacheDType dtype : {KvCacheDType::kBf16, KvCacheDType::kF8E4M3}) {
    ExpectMatches({.dtype = dtype, .num_kv_heads = 1}, {{3000, 17}, {1100, 300}}, 1);
    ExpectMatches({.dtype = dtype, .head_dim = 64, .group = 1}, {{1500, 260}, {128, 128}}, 2);
    ExpectMatches({.dtype = dtype, .head_dim = 256, .num_kv_heads = 1}, {{1000, 33}}, 3);
  }
}

TEST(GpuPagedPrefill, LeavesShortSequencesAlone) {
  ExpectMatches({}, {{90, 20}, {33, 1}, {70, 70}, {400, 1}, {12, 2}}, 5, 2);
  ExpectMatches({}, {{33, 1}, {90, 15}, {50, 16}}, 6, 16);
  ExpectMatches({}, {{33, 1}, {90, 1}}, 7, 2);
}

TEST(GpuPagedPrefill, HonoursTheWindow) {
  for (const uint32_t window : {1u, 16u, 64u, 100u, 4096u}) {
    for (const KvCacheDType dtype : {KvCacheDType::kBf16, KvCacheDType::kF8E4M3}) {
      ExpectMatches({.dtype = dtype, .window = window}, {{64, 64}, {500, 130}, {777, 1}}, window);
    }
  }
}

TEST(GpuPagedPrefill, SplitTilesMatchReference) {
  for (const KvCacheDType dtype : kDTypes) {
    for (const uint32_t head_dim : {64u, 128u, 256u}) {
      ExpectMatches({.dtype = dtype, .head_dim = head_dim, .num_kv_heads = 1},
                    {{3000, 16}, {700, 3}, {40, 40}, {1500, 2}}, head_dim, 2, 20);
    }
    // More parts than lanes, a window that hides some from some rows, and both activations.
    ExpectMatches({.dtype = dtype, .num_kv_heads = 1, .group = 1}, {{9000, 5}}, 4, 1, 40);
    ExpectMatches({.dtype = dtype, .window = 600}, {{2500, 60}, {900, 31}}, 5, 1, 12);
    ExpectMatches({.dtype = dtype, .act = DType::kF16, .group = 7}, {{1500, 9}}, 6, 1, 8);
  }
}

TEST(GpuPagedPrefill, PartsCoverEachTileOnce) {
  const PagedCase c{.head_dim = 64, .num_kv_heads = 1, .group = 4};
  const std::vector<PagedSeq> seqs = {{5000, 16}, {2000, 200}, {90, 90}, {260, 1}, {7000, 33}};
  const PagedProblem problem(c, seqs, 1);
  for (const PrefillPath path : {PrefillPath::kPortable, PrefillPath::kHopper}) {
    for (const uint32_t target : {1u, 5u, 16u, 100u}) {
      const Plan plan(problem.Params(), path, 2, TestLaunch(c.act), target);
      std::map<std::pair<uint32_t, uint32_t>, std::map<uint32_t, uint32_t>> ranges;
      std::set<uint32_t> parts;
      for (const PrefillTile& tile : plan.ToHost()) {
        if (tile.part != PrefillTile::kWhole) {
          EXPECT_TRUE(parts.insert(tile.part).second);
          EXPECT_LT(tile.part, plan.tiles().split.MaxParts());
          EXPECT_EQ(tile.first_position % kPrefillPartStep, 0u);
        }
        auto& pieces = ranges[{tile.seq, tile.first_token}];
        EXPECT_TRUE(pieces.emplace(tile.first_position, tile.end_position).second);
      }
      for (const auto& [tile, pieces] : ranges) {
        uint32_t at = 0;
        for (const auto& [first, end] : pieces) {
          EXPECT_EQ(first, at);
          at = end;
        }
        EXPECT_GE(at, seqs[tile.first].seq_len - seqs[tile.first].query_len + tile.second + 1);
      }
      const uint32_t tokens = PrefillTileTokens(path, c.group);
      size_t want = 0;
      for (const PagedSeq& seq : seqs) {
        want += seq.query_len < 2 ? 0 : (seq.query_len + tokens - 1) / tokens;
      }
      EXPECT_EQ(ranges.size(), want);
    }
  }
}

// The last `query_len` rows of one sequence, computed alone, in a chunk and among others, are the
// same bits.
TEST(GpuPagedPrefill, RowDoesNotDependOnChunksNorCompany) {
  for (const KvCacheDType dtype : {KvCacheDType::kBf16, KvCacheDType::kF8E4M3}) {
    for (const uint32_t window : {0u, 150u}) {
      const PagedCase c{.dtype = dtype, .window = window};
      const PagedProblem problem(c, {{700, 700}, {333, 333}}, 11);
      for (const PrefillPath path : Paths(c)) {
        SCOPED_TRACE(Describe(path, c));
        const Launch launch = TestLaunch(c.act);
        const Plan whole(problem.Params(), path, 1, launch);
        PagedPrefill(problem.Params(), whole.tiles(), launch);
        const auto want = problem.Out();
        for (const uint32_t chunk : {1u, 7u, 130u}) {
          problem.ClearOut();
          for (uint32_t at = 0; at < 700; at += chunk) {
            // The first sequence up to `at` + chunk, then as much of the second as there is.
            const DeviceArray<uint32_t> starts(
                std::vector<uint32_t>{at, std::min(at + chunk, 700u), std::min(at + chunk, 700u)});
            const DeviceArray<uint32_t> lens(
                std::vector<uint32_t>{std::min(at + chunk, 700u), 333u});
            auto params = problem.Params();
            params.query_start_loc = starts.data();
            params.seq_lens = lens.data();
            const Plan plan(params, path, 1, launch);
            PagedPrefill(params, plan.tiles(), launch);
            KVS_GPU(DeviceSynchronize());
          }
          const auto got = problem.Out();
          size_t different = 0;
          for (size_t i = 0; i < 700 * problem.OutLen(); ++i) different += got[i] != want[i];
          EXPECT_EQ(different, 0u) << "chunks of " << chunk;
        }
      }
    }
  }
}

TEST(GpuPagedPrefill, PlanListsEveryTileOnceAndLongestFirst) {
  Random random(5);
  std::vector<PagedSeq> seqs;
  for (int i = 0; i < 300; ++i) {
    const uint32_t query_len = 1 + random.Below(i % 10 == 0 ? 900 : 3);
    seqs.push_back({query_len + random.Below(500), query_len});
  }
  const PagedCase c{.head_dim = 64, .num_kv_heads = 1, .group = 7};
  const PagedProblem problem(c, seqs, 1);
  for (const PrefillPath path : {PrefillPath::kPortable, PrefillPath::kHopper}) {
    const uint32_t tokens = PrefillTileTokens(path, c.group);
    std::set<std::pair<uint32_t, uint32_t>> missing;
    for (uint32_t s = 0; s < seqs.size(); ++s) {
      for (uint32_t first = 0; seqs[s].query_len > 1 && first < seqs[s].query_len;
           first += tokens) {
        missing.insert({s, first});
      }
    }
    const Plan plan(problem.Params(), path, 2, TestLaunch(c.act));
    uint32_t before = UINT32_MAX - 2;
    for (const PrefillTile& tile : plan.ToHost()) {
      EXPECT_EQ(missing.erase({tile.seq, tile.first_token}), 1u);
      const PagedSeq& seq = seqs[tile.seq];
      const uint32_t last = std::min(tile.first_token + tokens, seq.query_len);
      const uint32_t cost = seq.seq_len - seq.query_len + last;
      EXPECT_LE(cost, before + 2);  // buckets of at most 2 positions
      before = std::min(before, cost);
    }
    EXPECT_TRUE(missing.empty());
  }
}

}  // namespace
}  // namespace kvs::gpu
