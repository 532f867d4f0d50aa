// What other threads may do to the engine: fill its queue, cancel, reset, stop.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "engine/engine.h"
#include "support/engine_harness.h"

namespace kvs::test {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

class EngineCancel : public SerialAndPipelined {};
INSTANTIATE_TEST_SUITE_P(Modes, EngineCancel, testing::Bool(), NameOfMode);
class EngineQueue : public SerialAndPipelined {};
INSTANTIATE_TEST_SUITE_P(Modes, EngineQueue, testing::Bool(), NameOfMode);
class EngineReset : public SerialAndPipelined {};
INSTANTIATE_TEST_SUITE_P(Modes, EngineReset, testing::Bool(), NameOfMode);
class EngineStop : public SerialAndPipelined {};
INSTANTIATE_TEST_SUITE_P(Modes, EngineStop, testing::Bool(), NameOfMode);
class EngineStorm : public SerialAndPipelined {};
INSTANTIATE_TEST_SUITE_P(Modes, EngineStorm, testing::Bool(), NameOfMode);

void ExpectQuiet(EngineHarness& harness) {
  ASSERT_TRUE(harness.engine->WaitIdle(milliseconds(60'000)));
  for (const char* gauge :
       {"vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc",
        "vllm:gpu_cache_usage_perc", "kvserve_kv_held_blocks", "kvserve_kv_blocks_leaked"}) {
    EXPECT_EQ(MetricValue(harness.metrics, gauge), 0) << gauge;
  }
}

TEST_P(EngineCancel, BeforeAdmission) {
  EngineHarness harness(GetParam());
  harness.gate.Close();
  Call running(*harness.engine, MakeRequest(MakePrompt(1, 10), 5));
  harness.gate.WaitUntilHeld();
  Call in_inbox(*harness.engine, MakeRequest(MakePrompt(2, 10), 5));  // a step is being computed
  in_inbox.channel->Cancel();
  in_inbox.channel->Cancel();
  harness.gate.Open();
  const Received received = in_inbox.Read();
  ASSERT_EQ(received.events.size(), 1u);
  EXPECT_EQ(received.last().finish, FinishReason::kCancelled);
  EXPECT_FALSE(received.last().has_token);
  EXPECT_EQ(running.Read().tokens().size(), 5u);
  ExpectQuiet(harness);
}

TEST_P(EngineCancel, WhileWaiting) {
  EngineOptions options = SmallEngineOptions();
  options.scheduler.limits.max_num_seqs = 1;
  EngineHarness harness(options, GetParam());
  Call running(*harness.engine, MakeRequest(MakePrompt(1, 10), 400));
  Call waiting(*harness.engine, MakeRequest(MakePrompt(2, 10), 5));
  Call next(*harness.engine, MakeRequest(MakePrompt(3, 10), 5));
  waiting.channel->Cancel();
  EXPECT_EQ(waiting.Read().last().finish, FinishReason::kCancelled);
  EXPECT_EQ(running.Read().tokens().size(), 400u);
  EXPECT_EQ(next.Read().tokens(), FakeModel::GreedyOutput(MakePrompt(3, 10), 5));
  ExpectQuiet(harness);
}

// Holds the engine in step `step` of a request, cancels, and counts the steps that follow.
void CancelInStep(bool pipelined, int step, uint32_t num_prompt_tokens) {
  EngineHarness harness(pipelined);
  std::atomic<int> num_steps{0};
  harness.model.on_forward = [&](const StepPlan&) {
    if (++num_steps == step) {
      harness.gate.Close();
      harness.gate.Pass();
    }
  };
  Call call(*harness.engine, MakeRequest(MakePrompt(1, num_prompt_tokens), 100));
  harness.gate.WaitUntilHeld();
  call.channel->Cancel();
  harness.gate.Open();
  EXPECT_EQ(call.Read().last().finish, FinishReason::kCancelled);
  EXPECT_EQ(num_steps, step);  // the step under way was the last
  ExpectQuiet(harness);
}

TEST_P(EngineCancel, MidPrefillWithinOneStep) { CancelInStep(GetParam(), 2, 300); }
TEST_P(EngineCancel, MidDecodeWithinOneStep) { CancelInStep(GetParam(), 9, 30); }

TEST_P(EngineCancel, AfterTheEndChangesNothing) {
  EngineHarness harness(GetParam());
  Call call(*harness.engine, MakeRequest(MakePrompt(1, 10), 3));
  const Received received = call.Read();
  call.channel->Cancel();
  EXPECT_EQ(received.last().finish, FinishReason::kLength);
  ExpectQuiet(harness);
}

TEST_P(EngineCancel, AReaderTooFarBehindLosesItsRequestAlone) {
  EngineOptions options = SmallEngineOptions();
  options.channel_capacity = 10;
  EngineHarness harness(options, GetParam());
  Call slow(*harness.engine, MakeRequest(MakePrompt(1, 10), 200));
  ExpectQuiet(harness);  // it ends although nobody reads
  const Received received = slow.Read();
  EXPECT_EQ(received.last().finish, FinishReason::kCancelled);
  EXPECT_EQ(received.tokens().size(), 10u);
  const std::vector<TokenId> greedy = FakeModel::GreedyOutput(MakePrompt(1, 10), 10);
  EXPECT_EQ(received.tokens(), greedy);
}

TEST_P(EngineQueue, FullQueueRefusesAllOfACallAndTakesAgainLater) {
  EngineOptions options = SmallEngineOptions();
  options.scheduler.limits.max_num_seqs = 2;
  options.max_num_queued_reqs = 3;
  EngineHarness harness(options, GetParam());
  harness.gate.Close();
  std::vector<Call> calls;
  for (uint32_t i = 0; i < 4; ++i) {
    calls.emplace_back(*harness.engine, MakeRequest(MakePrompt(i, 10), 5));
  }
  harness.gate.WaitUntilHeld();
  const auto signal = std::make_shared<ChannelSignal>();
  const auto two = harness.engine->Submit(
      {MakeRequest(MakePrompt(8, 10), 5), MakeRequest(MakePrompt(9, 10), 5)}, signal);
  ASSERT_FALSE(two.has_value());
  EXPECT_EQ(two.error().code(), Code::kUnavailable);
  EXPECT_THAT(two.error().message(), HasSubstr("max_num_queued_reqs"));
  calls.emplace_back(*harness.engine, MakeRequest(MakePrompt(4, 10), 5));  // one still fits
  EXPECT_FALSE(harness.engine->Submit({MakeRequest(MakePrompt(5, 10), 5)}, signal).has_value());
  EXPECT_EQ(MetricValue(harness.metrics, "kvserve_requests_rejected_total", {"\"queue_full\""}), 3);

  // Never possible, so not worth a retry.
  const auto six =
      harness.engine->Submit(std::vector<Request>(6, MakeRequest(MakePrompt(1, 10), 5)), signal);
  ASSERT_FALSE(six.has_value());
  EXPECT_EQ(six.error().code(), Code::kInvalidArgument);

  harness.gate.Open();
  for (uint32_t i = 0; i < 5; ++i) {
    EXPECT_EQ(calls[i].Read().tokens(), FakeModel::GreedyOutput(MakePrompt(i, 10), 5));
  }
  Call later(*harness.engine, MakeRequest(MakePrompt(6, 10), 5));
  EXPECT_EQ(later.Read().tokens().size(), 5u);
  ExpectQuiet(harness);
}

TEST_P(EngineQueue, WhenThePoolIsTheLimitSeatsAreWhatRuns) {
  EngineOptions options = SmallEngineOptions();
  options.scheduler.num_blocks = 4;  // 64 tokens: one of these requests at a time
  options.max_num_queued_reqs = 2;
  EngineHarness harness(options, GetParam());
  std::atomic<int> num_steps{0};
  harness.model.on_forward = [&](const StepPlan&) {
    const int step = ++num_steps;
    if (step == 1 || step == 3) harness.gate.Close();
    harness.gate.Pass();
  };
  std::vector<Call> calls;
  calls.emplace_back(*harness.engine, MakeRequest(MakePrompt(0, 50), 10));
  harness.gate.WaitUntilHeld();
  for (uint32_t i = 1; i < 3; ++i) {
    calls.emplace_back(*harness.engine, MakeRequest(MakePrompt(i, 50), 10));
  }
  harness.gate.Open();
  while (num_steps < 3) std::this_thread::yield();
  harness.gate.WaitUntilHeld();  // the second step saw two that found no room
  EXPECT_EQ(MetricValue(harness.metrics, "vllm:num_requests_running"), 1);
  EXPECT_EQ(MetricValue(harness.metrics, "vllm:num_requests_waiting"), 2);
  const auto refused = harness.engine->Submit({MakeRequest(MakePrompt(9, 50), 10)},
                                              std::make_shared<ChannelSignal>());
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), Code::kUnavailable);
  harness.gate.Open();
  for (Call& call : calls) EXPECT_EQ(call.Read().tokens().size(), 10u);
  ExpectQuiet(harness);
}

TEST_P(EngineReset, ForgetsThePrefixesWhenNothingRuns) {
  EngineHarness harness(GetParam());
  const std::vector<TokenId> prompt = MakePrompt(1, 64);
  Call first(*harness.engine, MakeRequest(prompt, 2));
  first.Read();
  EXPECT_GT(MetricValue(harness.metrics, "kvserve_kv_cached_free_blocks"), 0);
  const auto reset = harness.engine->ResetPrefixCache();
  ASSERT_TRUE(reset.has_value());
  EXPECT_TRUE(reset->success);
  EXPECT_EQ(reset->num_blocks_in_use, 0u);
  EXPECT_EQ(MetricValue(harness.metrics, "kvserve_kv_cached_free_blocks"), 0);
  Call second(*harness.engine, MakeRequest(prompt, 2));
  EXPECT_EQ(second.Read().events[0].num_cached_tokens, 0u);
}

TEST_P(EngineReset, IsRefusedWithTheBlocksInUseWhileARequestRuns) {
  EngineHarness harness(GetParam());
  std::atomic<int> num_steps{0};
  harness.model.on_forward = [&](const StepPlan&) {
    if (++num_steps == 3) harness.gate.Close();
    harness.gate.Pass();
    std::this_thread::sleep_for(milliseconds(2));  // it runs for a second at least
  };
  Call busy(*harness.engine, MakeRequest(MakePrompt(1, 64), 400));
  harness.gate.WaitUntilHeld();
  std::thread opening([&] {
    std::this_thread::sleep_for(milliseconds(20));
    harness.gate.Open();
  });
  const Result<ResetResult> reset = harness.engine->ResetPrefixCache();  // waits for the step
  opening.join();
  ASSERT_TRUE(reset.has_value());
  EXPECT_FALSE(reset->success);
  EXPECT_GE(reset->num_blocks_in_use, 5u);
  busy.channel->Cancel();
  busy.Read();
  ExpectQuiet(harness);
}

TEST_P(EngineStop, DrainsWhatWasAcceptedAndRefusesTheRest) {
  EngineHarness harness(GetParam());
  harness.gate.Close();
  Call running(*harness.engine, MakeRequest(MakePrompt(1, 10), 50));
  harness.gate.WaitUntilHeld();
  Call in_inbox(*harness.engine, MakeRequest(MakePrompt(2, 10), 50));
  EXPECT_TRUE(harness.engine->accepting());
  harness.engine->BeginStop();
  EXPECT_FALSE(harness.engine->accepting());
  const auto refused = harness.engine->Submit({MakeRequest(MakePrompt(3, 10), 5)},
                                              std::make_shared<ChannelSignal>());
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), Code::kUnavailable);
  EXPECT_EQ(MetricValue(harness.metrics, "kvserve_requests_rejected_total", {"\"stopping\""}), 1);
  EXPECT_FALSE(harness.engine->ResetPrefixCache().has_value());
  EXPECT_FALSE(harness.engine->WaitIdle(milliseconds(10)));
  harness.gate.Open();
  EXPECT_TRUE(harness.engine->WaitIdle(milliseconds(60'000)));
  EXPECT_EQ(running.Read().tokens().size(), 50u);
  EXPECT_EQ(in_inbox.Read().tokens().size(), 50u);
  harness.engine->Shutdown();
  harness.engine->Shutdown();
  ExpectQuiet(harness);
}

TEST_P(EngineStop, ShutdownEndsEveryRequestOnce) {
  EngineHarness harness(GetParam());
  harness.gate.Close();
  std::vector<Call> calls;
  for (uint32_t i = 0; i < 30; ++i) {
    calls.emplace_back(*harness.engine, MakeRequest(MakePrompt(i, 30), 400));
    if (i == 0) harness.gate.WaitUntilHeld();
  }
  std::thread stopping([&] { harness.engine->Shutdown(); });
  std::this_thread::sleep_for(milliseconds(20));
  harness.gate.Open();
  stopping.join();
  for (Call& call : calls) {
    const Received received = call.Read();
    EXPECT_TRUE(received.ended);
    EXPECT_EQ(received.last().finish, FinishReason::kCancelled);
  }
  EXPECT_EQ(MetricValue(harness.metrics, "vllm:request_success_total", {"\"abort\""}), 30);
  ExpectQuiet(harness);
}

TEST_P(EngineStop, DestroyingABusyEngineEndsItsRequests) {
  EngineHarness harness(GetParam());
  Call call(*harness.engine, MakeRequest(MakePrompt(1, 30), 400));
  harness.engine.reset();
  EXPECT_TRUE(call.Read().ended);
}

// 256 readers on 16 threads; about one in ten leaves at a random moment. Nobody else notices.
TEST_P(EngineStorm, RandomCancelsHurtNobodyElse) {
  EngineOptions options = SmallEngineOptions();
  options.scheduler.limits.max_num_seqs = 64;
  options.scheduler.limits.max_num_batched_tokens = 256;
  options.scheduler.limits.max_num_logits_rows = 256;
  options.scheduler.num_blocks = 120;
  EngineHarness harness(options, GetParam());
  constexpr uint32_t kThreads = 16;
  constexpr uint32_t kEach = 16;
  std::atomic<uint32_t> num_whole{0};
  std::vector<std::thread> clients;
  for (uint32_t t = 0; t < kThreads; ++t) {
    clients.emplace_back([&, t] {
      std::mt19937 random(t);
      std::vector<Call> calls;
      for (uint32_t i = 0; i < kEach; ++i) {
        calls.emplace_back(*harness.engine, MakeRequest(MakePrompt(i % 4, 40 + t), 30));
      }
      for (uint32_t i = 0; i < kEach; ++i) {
        const bool leaves = random() % 10 == 0;
        if (leaves) {
          std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
          calls[i].channel->Cancel();
        }
        const Received received = calls[i].Read();
        const auto expected = FakeModel::GreedyOutput(MakePrompt(i % 4, 40 + t), 30);
        const auto tokens = received.tokens();
        ASSERT_LE(tokens.size(), expected.size());
        EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), expected.begin()));
        if (received.last().finish == FinishReason::kLength) ++num_whole;
        if (!leaves) {
          EXPECT_EQ(tokens.size(), expected.size());
        }
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_GE(num_whole, 200u);
  ExpectQuiet(harness);
  EXPECT_EQ(MetricValue(harness.metrics, "vllm:request_success_total", {"\"length\""}), num_whole);
  EXPECT_EQ(MetricValue(harness.metrics, "vllm:request_success_total", {"\"length\""}) +
                MetricValue(harness.metrics, "vllm:request_success_total", {"\"abort\""}),
            kThreads * kEach);
}

}  // namespace
}  // namespace kvs::test
