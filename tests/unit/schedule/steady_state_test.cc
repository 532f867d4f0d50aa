// Between two tokens the scheduler takes no memory: this program's operator new counts.
#include <gtest/gtest.h>

#include <cstdlib>
#include <new>

#include "unit/schedule/scheduler_harness.h"

namespace {

thread_local uint64_t num_allocations = 0;

}  // namespace

void* operator new(size_t size) {
  ++num_allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace kvs {
namespace {

TEST(SteadyState, AStepAllocatesNothing) {
  // A pool that decoding fills: blocks become full and cached, cached ones are evicted, sequences
  // are preempted and come back.
  SchedulerConfig config = TestConfig(80);
  config.limits.max_num_logits_rows = 16;
  SchedulerHarness harness(config);
  for (uint32_t i = 0; i < 8; ++i) harness.Add(TestPrompt(30, i * 50), 200);
  for (int i = 0; i < 12; ++i) harness.Step();
  const uint64_t num_before = harness.stats().num_preemptions;
  uint64_t num_in_steps = 0;
  for (int i = 0; i < 200; ++i) {
    const uint64_t start = num_allocations;
    const StepPlan& plan = harness.Plan();
    num_in_steps += num_allocations - start;
    ASSERT_FALSE(plan.slices.empty());
    std::vector<TokenId> sampled(plan.slices.size(), TokenId{static_cast<uint32_t>(i)});
    const uint64_t middle = num_allocations;
    harness.scheduler().Commit(sampled);
    num_in_steps += num_allocations - middle;
  }
  EXPECT_GT(num_allocations, 0u);
  EXPECT_EQ(num_in_steps, 0u);
  EXPECT_GT(harness.stats().num_preemptions, num_before);
  EXPECT_GT(harness.stats().num_evicted_blocks, 0u);
}

}  // namespace
}  // namespace kvs
