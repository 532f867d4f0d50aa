// CheckIntegrity sees what a bug would do to a sequence.
#include <gtest/gtest.h>

#include <functional>

#include "unit/schedule/scheduler_harness.h"

namespace kvs {
namespace {

class IntegrityDeathTest : public ::testing::Test {
 protected:
  IntegrityDeathTest() : harness_(TestConfig(32)) {
    running_ = &harness_.Add(TestPrompt(10), 8);
    harness_.Step();
    for (uint32_t i = 0; i < 8; ++i) waiting_ = &harness_.Add(TestPrompt(10), 8);
    harness_.scheduler().CheckIntegrity();
  }

  // The change is made in the process that dies.
  void ExpectSeen(const std::function<void()>& change) {
    EXPECT_DEATH(
        {
          change();
          harness_.scheduler().CheckIntegrity();
        },
        "check failed");
  }

  SchedulerHarness harness_;
  Sequence* running_ = nullptr;
  Sequence* waiting_ = nullptr;
};

TEST_F(IntegrityDeathTest, ALostBlock) {
  ExpectSeen([&] { running_->block_table.pop_back(); });
}

TEST_F(IntegrityDeathTest, ABlockHeldTwice) {
  ExpectSeen([&] { running_->block_table[0] = running_->block_table[1]; });
}

TEST_F(IntegrityDeathTest, AWriteIntoACachedBlock) {
  ExpectSeen([&] { running_->num_computed_tokens = 4; });
}

TEST_F(IntegrityDeathTest, NothingLeftToCompute) {
  ExpectSeen([&] { running_->num_computed_tokens = running_->num_tokens(); });
}

TEST_F(IntegrityDeathTest, AWaitingSequenceWithBlocks) {
  ExpectSeen([&] { waiting_->block_table.push_back(BlockId{9}); });
}

TEST_F(IntegrityDeathTest, AFinishedSequenceThatRuns) {
  ExpectSeen([&] { running_->finish = FinishReason::kStop; });
}

TEST_F(IntegrityDeathTest, AQueueOutOfOrder) {
  ExpectSeen([&] { waiting_->request.arrival -= std::chrono::seconds(1); });
}

}  // namespace
}  // namespace kvs
