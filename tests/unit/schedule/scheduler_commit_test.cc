// Plans made before the step before is committed: tokens that nobody knows yet, and sequences that
// are found to have ended when their next token is already being computed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "unit/schedule/scheduler_harness.h"

namespace kvs {
namespace {

using ::testing::ElementsAre;

// A harness whose model runs one step ahead of the commits.
class SchedulerAhead : public ::testing::Test {
 protected:
  // Plans and computes a step; its tokens wait for Commit. False for an empty plan.
  bool Launch(SchedulerHarness& harness) {
    const StepPlan& plan = harness.Plan();
    harness.scheduler().CheckIntegrity();
    sampled_rows_.clear();
    for (size_t i = 0; i < plan.slices.size(); ++i) {
      sampled_rows_.push_back(plan.slices[i].sampled_row);
      harness.scheduler().planned()[i]->sampled_row = static_cast<uint32_t>(i);
    }
    if (plan.slices.empty()) return false;
    waiting_.push_back(harness.Run(plan));
    return true;
  }
  void Commit(SchedulerHarness& harness) {
    harness.CommitSampled(waiting_.front());
    waiting_.erase(waiting_.begin());
    harness.scheduler().CheckIntegrity();
  }
  void RunToEnd(SchedulerHarness& harness) {
    while (Launch(harness) || !waiting_.empty()) {
      if (waiting_.size() == 2 || sampled_rows_.empty()) Commit(harness);
    }
  }

  std::vector<uint32_t> sampled_rows_;  // of the last plan
  std::vector<std::vector<TokenId>> waiting_;
};

TEST_F(SchedulerAhead, TheNextStepTakesTokensFromTheDevice) {
  SchedulerHarness harness(TestConfig(20));
  const Sequence& a = harness.Add(TestPrompt(5), 4);
  const Sequence& b = harness.Add(TestPrompt(3, 50), 4);
  ASSERT_TRUE(Launch(harness));
  EXPECT_THAT(sampled_rows_, ElementsAre(kNoSampledRow, kNoSampledRow));
  ASSERT_TRUE(Launch(harness));
  EXPECT_THAT(sampled_rows_, ElementsAre(0, 1));
  EXPECT_EQ(a.num_tokens(), 6u);
  EXPECT_EQ(a.token_ids.back(), kNoToken);
  Commit(harness);
  EXPECT_NE(a.token_ids.back(), kNoToken);
  EXPECT_EQ(harness.outcome(b).output.size(), 1u);
  RunToEnd(harness);
  harness.ExpectOutputsAsAlone();
}

TEST_F(SchedulerAhead, WhoEndsByLengthIsNotPlannedAgain) {
  SchedulerHarness harness(TestConfig(20));
  harness.Add(TestPrompt(5), 1);
  const Sequence& longer = harness.Add(TestPrompt(3, 50), 2);
  ASSERT_TRUE(Launch(harness));
  ASSERT_TRUE(Launch(harness));
  EXPECT_THAT(harness.scheduler().planned(), ElementsAre(&longer));
  Commit(harness);
  EXPECT_FALSE(Launch(harness));  // all that is left waits for its last token
  EXPECT_FALSE(harness.scheduler().idle());
  Commit(harness);
  EXPECT_TRUE(harness.scheduler().idle());
  harness.ExpectOutputsAsAlone();
}

TEST_F(SchedulerAhead, TheTokenAfterAStopIsDroppedAndItsBlockServesAnother) {
  SchedulerConfig config = TestConfig(4);  // blocks of 4
  config.enable_prefix_caching = false;
  SchedulerHarness harness(config);
  Request request;
  request.prompt = TestPrompt(4);
  request.sampling.max_tokens = 10;
  request.sampling.stop_token_ids = {harness.Alone(request.prompt, 1)[0]};
  const Sequence& stops = harness.Add(request);
  ASSERT_TRUE(Launch(harness));
  ASSERT_TRUE(Launch(harness));  // the surplus token takes a second block
  EXPECT_EQ(harness.stats().num_blocks_held, 2u);
  Commit(harness);
  EXPECT_EQ(harness.stats().num_blocks_held, 0u);
  EXPECT_EQ(harness.outcome(stops).finish, FinishReason::kStop);
  EXPECT_EQ(harness.outcome(stops).output.size(), 1u);
  harness.Add(TestPrompt(13, 60), 3);  // all four blocks
  ASSERT_TRUE(Launch(harness));
  EXPECT_EQ(stops.finish, FinishReason::kStop);  // still valid: the surplus step is open
  Commit(harness);
  RunToEnd(harness);
  harness.ExpectOutputsAsAlone();
}

TEST_F(SchedulerAhead, APreemptedSequenceLearnsItsTokenWhileItWaits) {
  SchedulerConfig config = TestConfig(5);
  config.enable_prefix_caching = false;
  SchedulerHarness harness(config);
  harness.Add(TestPrompt(7), 8);
  const Sequence& victim = harness.Add(TestPrompt(7, 50), 8);
  bool seen = false;
  while (Launch(harness) || !waiting_.empty()) {
    const bool has_pending =
        victim.num_preemptions == 1 && victim.scheduler_state.has_pending_token;
    if (has_pending && !seen) {
      seen = true;
      EXPECT_EQ(victim.num_computed_tokens, 0u);
      EXPECT_EQ(harness.scheduler().planned().size(), 1u);
    }
    if (waiting_.size() == 2 || sampled_rows_.empty()) Commit(harness);
    if (has_pending) break;
  }
  EXPECT_TRUE(seen);
  EXPECT_FALSE(victim.scheduler_state.has_pending_token);
  EXPECT_FALSE(victim.scheduler_state.is_running);
  RunToEnd(harness);
  harness.ExpectOutputsAsAlone();
}

TEST_F(SchedulerAhead, ACancelledSequenceLosesItsPendingToken) {
  SchedulerHarness harness(TestConfig(20));
  Sequence& gone = harness.Add(TestPrompt(5), 4);
  harness.Add(TestPrompt(3, 50), 4);
  ASSERT_TRUE(Launch(harness));
  ASSERT_TRUE(Launch(harness));
  harness.scheduler().Cancel(gone, FinishReason::kCancelled);
  harness.scheduler().CheckIntegrity();
  EXPECT_EQ(gone.num_output_tokens(), 0u);
  Commit(harness);
  EXPECT_EQ(harness.outcome(gone).num_finishes, 0u);
  ASSERT_TRUE(Launch(harness));
  EXPECT_EQ(gone.finish, FinishReason::kCancelled);  // valid while a step has a slice of it
  Commit(harness);
  RunToEnd(harness);
}

TEST_F(SchedulerAhead, ManyInASmallPoolGetWhatTheyGetAlone) {
  SchedulerHarness harness(TestConfig(12));
  for (uint32_t i = 0; i < 12; ++i) harness.Add(TestPrompt(3 + i, 7 * (i % 4)), 1 + 3 * (i % 5));
  RunToEnd(harness);
  harness.ExpectOutputsAsAlone();
  EXPECT_GT(harness.stats().num_preemptions, 0u);
}

}  // namespace
}  // namespace kvs
