#include "schedule/scheduler.h"

#include <gtest/gtest.h>

#include "unit/schedule/scheduler_harness.h"

namespace kvs {
namespace {

TEST(Scheduler, CanEverFitAsksPromptOutputPoolAndModelLength) {
  SchedulerConfig config = TestConfig(10);  // 40 tokens
  config.limits.max_model_len = 50;
  const Scheduler scheduler(config);
  EXPECT_TRUE(scheduler.CanEverFit(1, 1));
  EXPECT_TRUE(scheduler.CanEverFit(30, 10));
  EXPECT_FALSE(scheduler.CanEverFit(30, 11));
  EXPECT_TRUE(scheduler.CanEverFit(40, 0));
  EXPECT_FALSE(scheduler.CanEverFit(41, 0));
  EXPECT_FALSE(scheduler.CanEverFit(0, 1));
  EXPECT_FALSE(scheduler.CanEverFit(UINT32_MAX, UINT32_MAX));

  config.num_blocks = 100;
  const Scheduler large(config);
  EXPECT_TRUE(large.CanEverFit(49, UINT32_MAX));  // cut at max_model_len
  EXPECT_FALSE(large.CanEverFit(50, 1));
  EXPECT_TRUE(large.CanEverFit(50, 0));
}

TEST(Scheduler, RunsARequestToItsEnd) {
  SchedulerHarness harness(TestConfig(16));
  const Sequence& sequence = harness.Add(TestPrompt(10), 5);
  EXPECT_FALSE(harness.scheduler().idle());
  EXPECT_EQ(harness.stats().num_waiting, 1u);
  harness.RunToEnd();
  const auto& outcome = harness.outcome(1);
  EXPECT_EQ(outcome.output.size(), 5u);
  EXPECT_EQ(outcome.finish, FinishReason::kLength);
  harness.ExpectOutputsAsAlone();
  EXPECT_TRUE(harness.scheduler().idle());
  EXPECT_EQ(harness.stats().num_blocks_held, 0u);
  EXPECT_EQ(harness.stats().num_blocks_cached_free, 3u);  // 14 tokens were computed
  static_cast<void>(sequence);
}

TEST(Scheduler, AStopTokenIsAppendedAndTold) {
  SchedulerConfig config = TestConfig(16);
  config.eos_token_ids = {TokenId{2}};
  SchedulerHarness harness(config);
  Sequence& sequence = harness.Add(TestPrompt(5), 50);
  harness.Plan();
  EXPECT_EQ(harness.scheduler().Commit(std::array{TokenId{77}}).size(), 1u);
  harness.Plan();
  const auto updates = harness.scheduler().Commit(std::array{TokenId{2}});
  ASSERT_EQ(updates.size(), 1u);
  EXPECT_EQ(updates[0].sequence, &sequence);
  EXPECT_TRUE(updates[0].has_token);
  EXPECT_EQ(updates[0].token, TokenId{2});
  EXPECT_TRUE(updates[0].token_is_stop);
  EXPECT_EQ(updates[0].finish, FinishReason::kStop);
  EXPECT_EQ(sequence.finish, FinishReason::kStop);
  EXPECT_EQ(sequence.num_output_tokens(), 2u);
  EXPECT_TRUE(harness.scheduler().idle());
}

TEST(Scheduler, NoTokenFailsThatSequenceAlone) {
  SchedulerHarness harness(TestConfig(16));
  Sequence& bad = harness.Add(TestPrompt(5), 4);
  Sequence& good = harness.Add(TestPrompt(5, 100), 4);
  harness.Plan();
  const auto updates = harness.scheduler().Commit(std::array{kNoToken, TokenId{9}});
  ASSERT_EQ(updates.size(), 2u);
  EXPECT_EQ(updates[0].sequence, &bad);
  EXPECT_EQ(updates[0].finish, FinishReason::kError);
  EXPECT_FALSE(updates[0].has_token);
  EXPECT_EQ(updates[1].finish, FinishReason::kNone);
  EXPECT_EQ(good.num_output_tokens(), 1u);
  harness.scheduler().CheckIntegrity();
  EXPECT_EQ(harness.stats().num_running, 1u);
}

TEST(Scheduler, ATokenOfAChunkIsIgnored) {
  SchedulerConfig config = TestConfig(32);
  config.limits.max_num_batched_tokens = 8;
  SchedulerHarness harness(config);
  Sequence& sequence = harness.Add(TestPrompt(20), 4);
  harness.Plan();
  EXPECT_TRUE(harness.scheduler().Commit(std::array{kNoToken}).empty());
  EXPECT_EQ(sequence.num_computed_tokens, 8u);
  EXPECT_EQ(sequence.num_tokens(), 20u);
}

TEST(Scheduler, NothingToGenerateFinishesAfterThePrompt) {
  SchedulerHarness harness(TestConfig(16));
  Request request;
  request.prompt = TestPrompt(20);
  request.sampling.max_tokens = 0;
  request.sampling.num_prompt_logprobs = 1;
  harness.Add(std::move(request));
  harness.RunToEnd();
  EXPECT_EQ(harness.outcome(1).finish, FinishReason::kLength);
  EXPECT_TRUE(harness.outcome(1).output.empty());
  EXPECT_EQ(harness.outcome(1).num_finishes, 1u);
}

TEST(Scheduler, CancelFreesAWaitingAndARunningSequence) {
  SchedulerConfig config = TestConfig(16);
  config.limits.max_num_seqs = 1;
  SchedulerHarness harness(config);
  Sequence& running = harness.Add(TestPrompt(10), 20);
  Sequence& waiting = harness.Add(TestPrompt(10, 50), 20);
  harness.Step();
  EXPECT_EQ(harness.stats().num_blocks_held, 3u);
  harness.scheduler().Cancel(waiting, FinishReason::kCancelled);
  harness.scheduler().CheckIntegrity();
  harness.scheduler().Cancel(running, FinishReason::kError);
  harness.scheduler().CheckIntegrity();
  EXPECT_EQ(waiting.finish, FinishReason::kCancelled);
  EXPECT_EQ(running.finish, FinishReason::kError);
  EXPECT_TRUE(harness.scheduler().idle());
  EXPECT_EQ(harness.stats().num_blocks_held, 0u);
  EXPECT_TRUE(harness.Plan().slices.empty());
}

TEST(Scheduler, AVisitorMayCancel) {
  SchedulerHarness harness(TestConfig(64));
  for (uint32_t i = 0; i < 12; ++i) harness.Add(TestPrompt(10, i * 20), 20);
  harness.Step();
  uint32_t num_visited = 0;
  harness.scheduler().ForEachSequence([&](Sequence& sequence) {
    if (++num_visited % 2 == 0) {
      harness.scheduler().Cancel(sequence, FinishReason::kCancelled);
    }
  });
  EXPECT_EQ(num_visited, 12u);
  EXPECT_EQ(harness.stats().num_running + harness.stats().num_waiting, 6u);
  harness.scheduler().CheckIntegrity();
}

TEST(Scheduler, ResetForgetsThePrefixUnlessItIsHeld) {
  SchedulerHarness harness(TestConfig(16));
  harness.Add(TestPrompt(10), 2);
  harness.Step();
  EXPECT_FALSE(harness.scheduler().ResetPrefixCache());
  harness.RunToEnd();
  EXPECT_TRUE(harness.scheduler().ResetPrefixCache());
  EXPECT_EQ(harness.stats().num_blocks_cached_free, 0u);
  harness.Add(TestPrompt(10), 2);
  harness.RunToEnd();
  EXPECT_EQ(harness.outcome(2).num_cached_tokens, 0u);
}

using SchedulerDeathTest = ::testing::Test;

TEST(SchedulerDeathTest, MisuseAborts) {
  SchedulerHarness harness(TestConfig(4));
  EXPECT_DEATH(harness.Add(TestPrompt(17), 1), "check failed");
  EXPECT_DEATH(harness.Add(TestPrompt(4), 0), "check failed");  // nothing to compute it for
  Sequence& sequence = harness.Add(TestPrompt(4), 3);
  EXPECT_DEATH(harness.scheduler().Commit(std::array{TokenId{1}}), "check failed");
  harness.Plan();
  EXPECT_DEATH(
      {
        harness.Plan();  // a step ahead
        harness.Plan();
      },
      "check failed");
  EXPECT_DEATH(harness.scheduler().Commit({}), "check failed");
  harness.scheduler().Commit(std::array{TokenId{1}});
  harness.scheduler().Cancel(sequence, FinishReason::kCancelled);
  EXPECT_DEATH(harness.scheduler().Cancel(sequence, FinishReason::kCancelled), "check failed");
}

TEST(SchedulerDeathTest, EverySequenceMustBeGoneAtTheEnd) {
  EXPECT_DEATH(
      {
        Scheduler scheduler(TestConfig(4));
        auto sequence = std::make_unique<Sequence>();
        sequence->request.prompt = TestPrompt(2);
        scheduler.Add(std::move(sequence));
      },
      "check failed");
}

// Everything the pool held is gone; the fake model's cells show any block that is still read.
TEST(Scheduler, ARestartComputesAgainWhatRanAndKeepsOrderAndCounts) {
  SchedulerConfig config = TestConfig(12);
  config.limits.max_num_seqs = 2;
  SchedulerHarness harness(config);
  harness.Add(TestPrompt(9), 2);
  harness.RunToEnd();
  harness.Add(TestPrompt(9), 2);  // a hit: 8 tokens of the first
  harness.Add(TestPrompt(9, 100), 12);
  harness.Add(TestPrompt(9, 200), 12);
  harness.Add(TestPrompt(9, 300), 12);  // waits for a seat
  ASSERT_TRUE(harness.Step());
  ASSERT_TRUE(harness.Step());
  ASSERT_TRUE(harness.Step());
  const SchedulerStats before = harness.stats();
  ASSERT_EQ(before.prefix_hit_tokens, 8u);
  ASSERT_EQ(before.num_running, 2u);
  ASSERT_EQ(before.num_waiting, 1u);

  harness.scheduler().Restart(12, 77);
  EXPECT_EQ(harness.stats().num_running, 0u);
  EXPECT_EQ(harness.stats().num_waiting, before.num_running + before.num_waiting);
  EXPECT_EQ(harness.stats().num_blocks_held, 0u);
  EXPECT_EQ(harness.stats().num_blocks_cached_free, 0u) << "no prefix outlives it";
  EXPECT_EQ(harness.stats().num_preemptions, before.num_preemptions + before.num_running);
  EXPECT_EQ(harness.stats().prefix_hit_tokens, before.prefix_hit_tokens);
  harness.scheduler().CheckIntegrity();
  harness.RunToEnd();
  harness.ExpectOutputsAsAlone();
  EXPECT_EQ(harness.outcome(3).num_preemptions, 1u);
  EXPECT_EQ(harness.outcome(4).num_preemptions, 1u);
  EXPECT_EQ(harness.outcome(5).num_preemptions, 0u);
}

TEST(Scheduler, ARestartGivesMoreBlocksButAdmitsWhatFittedBefore) {
  SchedulerConfig config = TestConfig(4);  // 16 tokens
  SchedulerHarness harness(config);
  EXPECT_FALSE(harness.scheduler().CanEverFit(20, 1));
  harness.scheduler().Restart(8, 0);
  EXPECT_EQ(harness.stats().num_blocks_total, 8u);
  EXPECT_FALSE(harness.scheduler().CanEverFit(20, 1));
  EXPECT_TRUE(harness.scheduler().CanEverFit(15, 1));
}

TEST(Scheduler, CountsOfEvictedBlocksGoOnAfterARestart) {
  SchedulerConfig config = TestConfig(4);
  SchedulerHarness harness(config);
  for (uint32_t i = 0; i < 4; ++i) {
    harness.Add(TestPrompt(13, 50 * i), 1);
    harness.RunToEnd();
  }
  const uint64_t before = harness.stats().num_evicted_blocks;
  ASSERT_GT(before, 0u);
  harness.scheduler().Restart(4, 1);
  EXPECT_EQ(harness.stats().num_evicted_blocks, before);
  harness.Add(TestPrompt(13), 1);
  harness.RunToEnd();
  harness.Add(TestPrompt(13, 500), 1);
  harness.RunToEnd();
  EXPECT_GT(harness.stats().num_evicted_blocks, before);
}

}  // namespace
}  // namespace kvs
