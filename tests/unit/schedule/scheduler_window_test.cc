// Sliding windows: blocks that no later query sees are given back, and can still be hit.
#include <gtest/gtest.h>

#include "unit/schedule/scheduler_harness.h"

namespace kvs {
namespace {

constexpr uint32_t kBlockSize = 4;

SchedulerConfig WindowConfig(uint32_t num_blocks, uint32_t window) {
  SchedulerConfig config = TestConfig(num_blocks);
  EXPECT_EQ(config.limits.block_size, kBlockSize);
  config.window = window;
  return config;
}

TEST(Window, ADecodingSequenceHoldsWhatItsQueriesSee) {
  for (const bool caching : {false, true}) {
    for (const uint32_t window : {1u, 3u, 4u, 5u, 8u, 17u}) {
      SchedulerConfig config = WindowConfig(64, window);
      config.enable_prefix_caching = caching;
      SchedulerHarness harness(config);
      harness.Add(TestPrompt(30), 40);
      for (int step = 0; step < 39; ++step) {
        harness.Step();
        harness.scheduler().CheckIntegrity();
        // The window may begin and end within a block; the last full block stays.
        EXPECT_LE(harness.stats().num_blocks_held, (window - 1) / kBlockSize + 3) << window;
      }
      harness.RunToEnd();
      harness.ExpectOutputsAsAlone();
      EXPECT_EQ(harness.stats().num_blocks_held, 0u);
    }
  }
}

TEST(Window, NothingIsGivenBackWhileTheWindowCoversAll) {
  SchedulerHarness harness(WindowConfig(64, 90));
  harness.Add(TestPrompt(30), 40);
  // The first step computes the prompt, each later one a token.
  for (int step = 0; step < 39; ++step) harness.Step();
  EXPECT_EQ(harness.stats().num_blocks_held, (30 + 38 + kBlockSize - 1) / kBlockSize);
  harness.RunToEnd();
}

TEST(Window, GivenBackBlocksAreHit) {
  SchedulerConfig config = WindowConfig(64, 6);
  config.enable_prefix_caching = true;
  SchedulerHarness harness(config);
  harness.Add(TestPrompt(30), 10);
  harness.RunToEnd();
  harness.Add(TestPrompt(30), 10);
  harness.Step();
  EXPECT_EQ(harness.stats().prefix_hit_tokens, 28u);
  EXPECT_LE(harness.stats().num_blocks_held, 4u);
  harness.RunToEnd();
  harness.ExpectOutputsAsAlone();
}

// Where a block of the prefix is gone, nothing proves that what follows continues it.
TEST(Window, AnEvictedHeadEndsTheHit) {
  SchedulerConfig config = WindowConfig(14, 6);
  config.enable_prefix_caching = true;
  SchedulerHarness harness(config);
  harness.Add(TestPrompt(30), 10);
  harness.RunToEnd();
  harness.Add(TestPrompt(40, 500), 10);
  harness.RunToEnd();
  const uint64_t hits = harness.stats().prefix_hit_tokens;
  harness.Add(TestPrompt(30), 10);
  harness.RunToEnd();
  EXPECT_LT(harness.stats().prefix_hit_tokens - hits, 28u);
  harness.ExpectOutputsAsAlone();
}

}  // namespace
}  // namespace kvs
