// Plan: budgets, chunks, logits rows and preemption.
#include <gtest/gtest.h>

#include "unit/schedule/scheduler_harness.h"

namespace kvs {
namespace {

Request LogprobsRequest(uint32_t num_prompt, uint32_t first, uint32_t max_tokens) {
  Request request;
  request.prompt = TestPrompt(num_prompt, first);
  request.sampling.max_tokens = max_tokens;
  request.sampling.num_prompt_logprobs = 0;
  return request;
}

TEST(Plan, IsEmptyWhenNothingWaits) {
  SchedulerHarness harness(TestConfig(4));
  EXPECT_TRUE(harness.Plan().slices.empty());
  EXPECT_TRUE(harness.Plan().slices.empty());
}

TEST(Plan, MixesDecodesWithAChunkOfALongPrompt) {
  SchedulerConfig config = TestConfig(64);
  config.limits.max_num_batched_tokens = 16;
  SchedulerHarness harness(config);
  harness.Add(TestPrompt(6), 10);
  harness.Step();
  harness.Add(TestPrompt(40, 100), 3);
  const StepPlan& plan = harness.Plan();
  ASSERT_EQ(plan.slices.size(), 2u);
  EXPECT_EQ(plan.slices[0].token_ids.size(), 1u);
  EXPECT_EQ(plan.slices[0].first_position, 6u);
  EXPECT_EQ(plan.slices[0].num_logits_rows, 1u);
  EXPECT_EQ(plan.slices[0].block_table.size(), 2u);
  EXPECT_EQ(plan.slices[1].token_ids.size(), 15u);
  EXPECT_EQ(plan.slices[1].num_logits_rows, 0u);
  EXPECT_EQ(plan.slices[1].block_table.size(), 4u);
  EXPECT_EQ(plan.num_tokens, 16u);
  EXPECT_EQ(plan.num_logits_rows, 1u);
  harness.Commit(plan);
  const StepPlan& next = harness.Plan();
  ASSERT_EQ(next.slices.size(), 2u);
  EXPECT_EQ(next.slices[1].first_position, 15u);
  EXPECT_EQ(next.slices[1].token_ids[0], TokenId{115});
  harness.Commit(next);
  harness.RunToEnd();
  harness.ExpectOutputsAsAlone();
}

TEST(Plan, RunsAtMostMaxNumSeqs) {
  SchedulerHarness harness(TestConfig(200));
  for (uint32_t i = 0; i < 11; ++i) harness.Add(TestPrompt(3, i * 10), 4);
  const StepPlan& plan = harness.Plan();
  EXPECT_EQ(plan.slices.size(), 8u);
  EXPECT_EQ(harness.stats().num_running, 8u);
  EXPECT_EQ(harness.stats().num_waiting, 3u);
  harness.Commit(plan);
  harness.RunToEnd();
  harness.ExpectOutputsAsAlone();
}

TEST(Plan, ChunksPromptLogprobsByRowsAndSparesARowForEverySampler) {
  SchedulerConfig config = TestConfig(200);
  config.limits.max_num_logits_rows = 11;  // 8 sequences and 3 to spare
  SchedulerHarness harness(config);
  Sequence& first = harness.Add(LogprobsRequest(10, 0, 3));
  harness.Add(LogprobsRequest(10, 100, 3));
  for (uint32_t i = 0; i < 6; ++i) harness.Add(TestPrompt(4, 200 + i * 10), 3);
  const StepPlan& plan = harness.Plan();
  ASSERT_EQ(plan.slices.size(), 8u);
  EXPECT_EQ(plan.slices[0].token_ids.size(), 4u);
  EXPECT_EQ(plan.slices[0].num_logits_rows, 4u);
  EXPECT_EQ(plan.slices[1].token_ids.size(), 1u);
  EXPECT_EQ(plan.slices[1].num_logits_rows, 1u);
  for (size_t i = 2; i < 8; ++i) EXPECT_EQ(plan.slices[i].num_logits_rows, 1u);
  EXPECT_EQ(plan.num_logits_rows, 11u);
  harness.Commit(plan);
  EXPECT_EQ(first.num_computed_tokens, 4u);
  harness.RunToEnd();
  harness.ExpectOutputsAsAlone();
}

TEST(Plan, GivesEveryPromptPositionItsRowOnceAlsoWhenPreempted) {
  SchedulerConfig config = TestConfig(12);
  config.limits.max_num_logits_rows = 10;
  config.limits.max_num_batched_tokens = 10;
  SchedulerHarness harness(config);
  harness.Add(TestPrompt(15, 500), 20);
  Sequence& asking = harness.Add(LogprobsRequest(24, 0, 8));
  std::vector<uint32_t> num_rows(24, 0);
  uint32_t num_preemptions = 0;
  for (;;) {
    const StepPlan& plan = harness.Plan();
    if (plan.slices.empty()) break;
    for (size_t i = 0; i < plan.slices.size(); ++i) {
      if (harness.scheduler().planned()[i] != &asking) continue;
      const ScheduledSlice& slice = plan.slices[i];
      const auto end = static_cast<uint32_t>(slice.first_position + slice.token_ids.size());
      for (uint32_t p = end - slice.num_logits_rows; p < std::min(end, 24u); ++p) ++num_rows[p];
      num_preemptions = asking.num_preemptions;
    }
    harness.Commit(plan);
    harness.scheduler().CheckIntegrity();
  }
  EXPECT_EQ(num_rows, std::vector<uint32_t>(24, 1));
  EXPECT_GT(num_preemptions, 0u);
  harness.ExpectOutputsAsAlone();
}

TEST(Plan, PreemptsTheLatestAndTheOldestNever) {
  SchedulerHarness harness(TestConfig(10));  // 40 tokens; each wants 32
  harness.Add(TestPrompt(12), 20);
  harness.Add(TestPrompt(12, 100), 20);
  harness.RunToEnd();
  harness.ExpectOutputsAsAlone();
  EXPECT_EQ(harness.outcome(1).num_preemptions, 0u);
  EXPECT_EQ(harness.outcome(2).num_preemptions, 1u);
  EXPECT_EQ(harness.stats().num_preemptions, 1u);
}

TEST(Plan, PreemptsTheLowestPriorityFirst) {
  SchedulerConfig config = TestConfig(10);
  config.policy = SchedulingPolicy::kPriority;
  SchedulerHarness harness(config);
  Request low;
  low.prompt = TestPrompt(12);
  low.sampling.max_tokens = 20;
  low.priority = 5;
  Request high = low;
  high.prompt = TestPrompt(12, 100);
  high.priority = -1;
  harness.Add(std::move(low));
  harness.Step();
  harness.Add(std::move(high));
  harness.RunToEnd();
  harness.ExpectOutputsAsAlone();
  EXPECT_EQ(harness.outcome(1).num_preemptions, 1u);
  EXPECT_EQ(harness.outcome(2).num_preemptions, 0u);
}

TEST(Plan, AResumedSequenceHitsItsOwnBlocks) {
  SchedulerHarness harness(TestConfig(10));
  harness.Add(TestPrompt(12), 12);
  Sequence& late = harness.Add(TestPrompt(12, 100), 20);
  uint32_t resumed_at = 0;
  while (harness.Step()) {
    const bool is_alive = harness.outcome(2).num_finishes == 0;
    if (!is_alive) break;
    if (late.num_preemptions == 1 && late.scheduler_state.is_running && resumed_at == 0) {
      resumed_at = late.num_computed_tokens - late.num_computed_tokens % 4;
    }
  }
  EXPECT_GT(resumed_at, 0u);
  harness.RunToEnd();
  harness.ExpectOutputsAsAlone();
  EXPECT_EQ(harness.outcome(2).num_preemptions, 1u);
  // Counted for the first admissions only.
  EXPECT_EQ(harness.stats().prefix_query_tokens, 24u);
  EXPECT_EQ(harness.stats().prefix_hit_tokens, 0u);
}

TEST(Plan, ManyInATinyPoolAllFinish) {
  for (const bool caching : {false, true}) {
    SchedulerConfig config = TestConfig(9);
    config.enable_prefix_caching = caching;
    config.limits.max_num_batched_tokens = 7;
    SchedulerHarness harness(config);
    for (uint32_t i = 0; i < 30; ++i)
      harness.Add(TestPrompt(1 + i % 13, (i % 4) * 100), 1 + i % 22);
    harness.RunToEnd();
    harness.ExpectOutputsAsAlone();
    EXPECT_EQ(harness.stats().num_blocks_held, 0u);
    EXPECT_GT(harness.stats().num_preemptions, 0u);
    if (!caching) {
      EXPECT_EQ(harness.stats().num_blocks_cached_free, 0u);
    }
  }
}

}  // namespace
}  // namespace kvs
