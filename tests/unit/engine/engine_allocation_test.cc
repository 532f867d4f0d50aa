// A decode step allocates nothing but room for the events it pushes. The binary's operator new
// counts per thread, so that the engine thread's calls can be told from all others.
#include <gtest/gtest.h>

#include <cstdlib>
#include <new>

#include "support/engine_harness.h"

namespace {

thread_local uint64_t t_num_allocations = 0;

}  // namespace

void* operator new(size_t size) {
  ++t_num_allocations;
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
void* operator new(size_t size, const std::nothrow_t&) noexcept {
  ++t_num_allocations;
  return std::malloc(size == 0 ? 1 : size);
}
// Inlined into a caller whose new is not, they would look like free() of what new gave.
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }

namespace kvs::test {
namespace {

// The fake's own sampling allocates; what it does is taken off the count.
class QuietModel : public FakeModel {
 public:
  using FakeModel::FakeModel;
  void StartSample(std::span<const SampleRow> rows, std::span<SampleResult> results,
                   float* logits) override {
    const uint64_t before = t_num_allocations;
    FakeModel::StartSample(rows, results, logits);
    t_num_allocations = before;
  }
};

void ExpectAllocationsForEventsAlone(bool pipelined) {
  const EngineOptions options = SmallEngineOptions();
  MetricsRegistry metrics;
  QuietModel model({.limits = options.scheduler.limits,
                    .num_blocks = options.scheduler.num_blocks,
                    .vocab_size = options.vocab_size,
                    .nan_token = std::nullopt,
                    .pipelined = pipelined});
  constexpr int kFirst = 20;  // all four decode by then
  constexpr int kLast = 180;
  int num_steps = 0;
  uint64_t at_first = 0;
  uint64_t at_last = 0;
  model.on_forward = [&](const StepPlan& plan) {
    ++num_steps;
    if (num_steps == kFirst) {
      EXPECT_EQ(plan.slices.size(), 4u);
      at_first = t_num_allocations;
    }
    if (num_steps == kLast) at_last = t_num_allocations;
  };
  {
    Engine engine(options, model, metrics);
    std::vector<Request> requests;
    for (uint32_t i = 0; i < 4; ++i) {
      requests.push_back(MakeRequest(MakePrompt(i, 30), 200));
      requests.back().sampling.repetition_penalty = 1.1f;
      requests.back().sampling.min_tokens = 5;
    }
    const auto signal = std::make_shared<ChannelSignal>();
    const auto channels = engine.Submit(std::move(requests), signal);
    ASSERT_TRUE(channels.has_value());
    ASSERT_TRUE(engine.WaitIdle(std::chrono::minutes(1)));
  }
  ASSERT_GE(num_steps, kLast);
  // Nobody reads, so each channel's vector doubles from 16 or so to 256: at most five times.
  EXPECT_LE(at_last - at_first, 4u * 5u);
}

TEST(EngineAllocation, DecodeStepsAllocateOnlyForTheirEvents) {
  ExpectAllocationsForEventsAlone(false);
}

TEST(EngineAllocation, AlsoWhenStepsArePlannedAhead) { ExpectAllocationsForEventsAlone(true); }

}  // namespace
}  // namespace kvs::test
