// Admission: prefix hits and their accounting, prefixes in flight, order and room.
#include <gtest/gtest.h>

#include "base/log.h"
#include "unit/schedule/scheduler_harness.h"

namespace kvs {
namespace {

void ExpectLookups(const SchedulerStats& stats, uint64_t queries, uint64_t hits,
                   uint64_t not_cached, uint64_t partial, uint64_t last) {
  EXPECT_EQ(stats.prefix_query_tokens, queries);
  EXPECT_EQ(stats.prefix_hit_tokens, hits);
  EXPECT_EQ(stats.miss_tokens_not_cached, not_cached);
  EXPECT_EQ(stats.miss_tokens_partial_block, partial);
  EXPECT_EQ(stats.miss_tokens_last_token, last);
}

TEST(Admission, ASecondRequestHitsThePrefix) {
  SchedulerHarness harness(TestConfig(32));
  harness.Add(TestPrompt(14), 3);
  harness.RunToEnd();
  ExpectLookups(harness.stats(), 14, 0, 12, 2, 0);
  harness.Add(TestPrompt(18), 3);
  const StepPlan& plan = harness.Plan();
  ASSERT_EQ(plan.slices.size(), 1u);
  EXPECT_EQ(plan.slices[0].first_position, 12u);
  EXPECT_EQ(plan.slices[0].token_ids.size(), 6u);
  harness.Commit(plan);
  harness.RunToEnd();
  harness.ExpectOutputsAsAlone();
  EXPECT_EQ(harness.outcome(2).num_cached_tokens, 12u);
  ExpectLookups(harness.stats(), 14 + 18, 12, 12 + 4, 2 + 2, 0);
}

TEST(Admission, AFullHitStillComputesItsLastBlock) {
  SchedulerHarness harness(TestConfig(32));
  harness.Add(TestPrompt(12), 3);
  harness.RunToEnd();
  harness.Add(TestPrompt(12), 3);
  harness.RunToEnd();
  EXPECT_EQ(harness.outcome(2).num_cached_tokens, 8u);
  EXPECT_EQ(harness.outcome(1).output, harness.outcome(2).output);
  ExpectLookups(harness.stats(), 24, 8, 12, 0, 4);
}

TEST(Admission, GeneratedTokensAreCachedToo) {
  SchedulerHarness harness(TestConfig(32));
  harness.Add(TestPrompt(6), 11);
  harness.RunToEnd();
  std::vector<TokenId> conversation = harness.outcome(1).prompt;
  const auto& output = harness.outcome(1).output;
  conversation.insert(conversation.end(), output.begin(), output.end());
  conversation.push_back(TokenId{5});
  harness.Add(conversation, 2);  // 18 tokens, of which 16 were computed
  harness.RunToEnd();
  EXPECT_EQ(harness.outcome(2).num_cached_tokens, 16u);
  harness.ExpectOutputsAsAlone();
}

TEST(Admission, ScopesDoNotShare) {
  SchedulerHarness harness(TestConfig(32));
  for (const char* scope : {"a", "b", "a"}) {
    Request request;
    request.prompt = TestPrompt(14);
    request.cache_scope = scope;
    harness.Add(std::move(request));
    harness.RunToEnd();
  }
  EXPECT_EQ(harness.outcome(2).num_cached_tokens, 0u);
  EXPECT_EQ(harness.outcome(3).num_cached_tokens, 12u);
}

TEST(Admission, WithoutCachingNothingIsLookedUp) {
  SchedulerConfig config = TestConfig(32);
  config.enable_prefix_caching = false;
  SchedulerHarness harness(config);
  for (int i = 0; i < 2; ++i) {
    harness.Add(TestPrompt(14), 3);
    harness.RunToEnd();
  }
  EXPECT_EQ(harness.outcome(2).num_cached_tokens, 0u);
  ExpectLookups(harness.stats(), 0, 0, 0, 0, 0);
}

TEST(Admission, PromptLogprobsWriteTheCacheButDoNotReadIt) {
  SchedulerHarness harness(TestConfig(32));
  Request request;
  request.prompt = TestPrompt(14);
  request.sampling.num_prompt_logprobs = 2;
  Request again = request;
  harness.Add(std::move(request));
  harness.RunToEnd();
  harness.Add(std::move(again));
  harness.RunToEnd();
  EXPECT_EQ(harness.outcome(2).num_cached_tokens, 0u);
  EXPECT_EQ(harness.stats().prefix_query_tokens, 0u);
  harness.Add(TestPrompt(14), 2);
  harness.RunToEnd();
  EXPECT_EQ(harness.outcome(3).num_cached_tokens, 12u);
}

TEST(Admission, APrefixInFlightIsComputedOnce) {
  SchedulerConfig config = TestConfig(64);
  config.limits.max_num_batched_tokens = 16;
  SchedulerHarness harness(config);
  std::vector<TokenId> first = TestPrompt(41);
  std::vector<TokenId> second = TestPrompt(42);
  second[40] = TokenId{999};
  harness.Add(first, 4);
  harness.Add(second, 4);
  harness.Add(TestPrompt(5, 700), 4);  // stands behind, and passes
  uint32_t num_computed = 0;
  for (;;) {
    const StepPlan& plan = harness.Plan();
    if (plan.slices.empty()) break;
    harness.scheduler().CheckIntegrity();
    for (const ScheduledSlice& slice : plan.slices) {
      num_computed += static_cast<uint32_t>(slice.token_ids.size());
    }
    harness.Commit(plan);
  }
  harness.ExpectOutputsAsAlone();
  EXPECT_EQ(harness.outcome(2).num_cached_tokens, 40u);
  // Prompts less the shared 40, and three more tokens for each output of four.
  EXPECT_EQ(num_computed, 41u + 2u + 5u + 9u);
}

TEST(Admission, OthersPassASequenceThatIsHeldBack) {
  SchedulerConfig config = TestConfig(64);
  config.limits.max_num_batched_tokens = 24;
  SchedulerHarness harness(config);
  harness.Add(TestPrompt(20), 4);
  harness.Add(TestPrompt(20), 4);
  Sequence& other = harness.Add(TestPrompt(4, 500), 4);
  const StepPlan& plan = harness.Plan();
  ASSERT_EQ(plan.slices.size(), 2u);
  EXPECT_EQ(harness.scheduler().planned()[1], &other);
  harness.Commit(plan);
  harness.RunToEnd();
  harness.ExpectOutputsAsAlone();
  EXPECT_EQ(harness.outcome(2).num_cached_tokens, 16u);
}

TEST(Admission, WhenTheOwnerLeavesTheHeldBackRuns) {
  SchedulerConfig config = TestConfig(64);
  config.limits.max_num_batched_tokens = 8;
  SchedulerHarness harness(config);
  Sequence& owner = harness.Add(TestPrompt(40), 4);
  Sequence& held_back = harness.Add(TestPrompt(40), 4);
  harness.Step();
  EXPECT_FALSE(held_back.scheduler_state.is_running);
  harness.scheduler().Cancel(owner, FinishReason::kCancelled);
  harness.scheduler().CheckIntegrity();
  const StepPlan& plan = harness.Plan();
  ASSERT_EQ(plan.slices.size(), 1u);
  EXPECT_EQ(plan.slices[0].first_position, 8u);  // what the owner got to
  harness.Commit(plan);
  harness.RunToEnd();
  EXPECT_EQ(harness.outcome(2).num_finishes, 1u);
}

TEST(Admission, TheHeadOfTheLineIsNotStarved) {
  SchedulerHarness harness(TestConfig(10));
  harness.Add(TestPrompt(20), 8);
  harness.Step();
  Sequence& large = harness.Add(TestPrompt(30, 200), 4);
  Sequence& small = harness.Add(TestPrompt(3, 600), 2);
  harness.Step();
  EXPECT_FALSE(large.scheduler_state.is_running);
  EXPECT_FALSE(small.scheduler_state.is_running);
  harness.RunToEnd();
  harness.ExpectOutputsAsAlone();
  EXPECT_EQ(harness.stats().num_preemptions, 0u);
}

TEST(Admission, LeavesABlockForEachRunningSequence) {
  SchedulerHarness harness(TestConfig(6));
  harness.Add(TestPrompt(8), 8);  // two blocks, four in the end
  harness.Step();                 // and a third for its next token
  harness.Step();
  Sequence& second = harness.Add(TestPrompt(12, 100), 2);
  harness.Step();
  EXPECT_FALSE(second.scheduler_state.is_running);  // three are free, but one is to be spared
  harness.RunToEnd();
  EXPECT_EQ(harness.stats().num_preemptions, 0u);
  harness.ExpectOutputsAsAlone();
}

TEST(Admission, ASequenceAloneMayUseTheWholePool) {
  SchedulerHarness harness(TestConfig(6));
  harness.Add(TestPrompt(20), 4);
  harness.Add(TestPrompt(20), 4);
  harness.RunToEnd();
  harness.ExpectOutputsAsAlone();
}

TEST(Admission, LogsTheLookup) {
  InitLog({.level = "debug", .format = LogFormat::kText});
  SchedulerHarness harness(TestConfig(32));
  ::testing::internal::CaptureStderr();
  for (const char* id : {"req-1", "req-2"}) {
    Request request;
    request.external_id = id;
    request.prompt = TestPrompt(14);
    harness.Add(std::move(request));
    harness.RunToEnd();
  }
  const std::string log = ::testing::internal::GetCapturedStderr();
  InitLog({});
  EXPECT_NE(log.find("prefix lookup request=req-1 prompt_tokens=14 cached_blocks=0 "
                     "cache_hit_tokens=0"),
            std::string::npos)
      << log;
  EXPECT_NE(log.find("prefix lookup request=req-2 prompt_tokens=14 cached_blocks=3 "
                     "cache_hit_tokens=12"),
            std::string::npos)
      << log;
}

}  // namespace
}  // namespace kvs
