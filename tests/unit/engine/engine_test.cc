// What one engine thread makes of requests: the right tokens, logprobs, errors and prefix hits,
// alone and together.
#include "engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "support/engine_harness.h"

namespace kvs::test {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

class EngineSteps : public SerialAndPipelined {};
INSTANTIATE_TEST_SUITE_P(Modes, EngineSteps, testing::Bool(), NameOfMode);

TEST_P(EngineSteps, OneRequestGivesTheModelsTokens) {
  EngineHarness harness(GetParam());
  Call call(*harness.engine, MakeRequest(MakePrompt(1, 20), 30));
  const Received received = call.Read();
  EXPECT_EQ(received.tokens(), FakeModel::GreedyOutput(MakePrompt(1, 20), 30));
  EXPECT_EQ(received.events.size(), 30u);
  EXPECT_EQ(received.last().finish, FinishReason::kLength);
  EXPECT_FALSE(received.last().token_is_stop);
  for (size_t i = 0; i + 1 < received.events.size(); ++i) {
    EXPECT_EQ(received.events[i].finish, FinishReason::kNone);
    EXPECT_EQ(received.events[i].logprobs, nullptr);
  }
}

TEST_P(EngineSteps, APromptLongerThanAStepIsComputedInChunks) {
  EngineHarness harness(GetParam());
  Call call(*harness.engine, MakeRequest(MakePrompt(1, 300), 5));  // 64 tokens a step
  EXPECT_EQ(call.Read().tokens(), FakeModel::GreedyOutput(MakePrompt(1, 300), 5));
}

TEST_P(EngineSteps, ManyTogetherGiveWhatEachGivesAlone) {
  EngineHarness harness(GetParam());
  std::vector<Call> calls;
  for (uint32_t i = 0; i < 40; ++i) {
    calls.emplace_back(*harness.engine, MakeRequest(MakePrompt(i, 1 + i * 3), 1 + i % 17));
  }
  for (uint32_t i = 0; i < 40; ++i) {
    EXPECT_EQ(calls[i].Read().tokens(),
              FakeModel::GreedyOutput(MakePrompt(i, 1 + i * 3), 1 + i % 17));
  }
}

TEST_P(EngineSteps, StopsAtEosAndAtStopTokens) {
  const std::vector<TokenId> greedy = FakeModel::GreedyOutput(MakePrompt(3, 10), 20);
  EngineHarness harness(GetParam());
  Request request = MakeRequest(MakePrompt(3, 10), 20);
  request.sampling.stop_token_ids = {greedy[6]};
  Call call(*harness.engine, request);
  const Received received = call.Read();
  ASSERT_EQ(received.events.size(),
            std::find(greedy.begin(), greedy.end(), greedy[6]) - greedy.begin() + 1u);
  EXPECT_EQ(received.last().finish, FinishReason::kStop);
  EXPECT_TRUE(received.last().token_is_stop);
  EXPECT_EQ(received.last().token, greedy[6]);

  EngineOptions options = SmallEngineOptions();
  options.scheduler.eos_token_ids = {greedy[6]};
  EngineHarness with_eos(options, GetParam());
  request.sampling.stop_token_ids = {};
  request.sampling.ignore_eos = false;
  Call eos_call(*with_eos.engine, request);
  EXPECT_EQ(eos_call.Read().events.size(), received.events.size());

  // min_tokens: the stop token may not come before.
  request.sampling.min_tokens = 12;
  Call min_call(*with_eos.engine, request);
  const std::vector<TokenId> tokens = min_call.Read().tokens();
  ASSERT_GE(tokens.size(), 12u);
  for (size_t i = 0; i < 12; ++i) EXPECT_NE(tokens[i], greedy[6]);
}

TEST_P(EngineSteps, DrawsDependOnTheSeedAloneNotOnCompany) {
  const auto sampled = [](uint64_t seed) {
    Request request = MakeRequest(MakePrompt(5, 33), 40);
    request.sampling.temperature = 1.0f;
    request.sampling.seed = seed;
    request.sampling.frequency_penalty = 0.5f;
    request.sampling.repetition_penalty = 1.3f;
    return request;
  };
  EngineHarness alone(GetParam());
  Call alone_call(*alone.engine, sampled(1));
  const std::vector<TokenId> expected = alone_call.Read().tokens();
  ASSERT_EQ(expected.size(), 40u);

  EngineHarness crowd(GetParam());
  std::vector<Call> calls;
  for (uint32_t i = 0; i < 12; ++i) {
    calls.emplace_back(*crowd.engine, MakeRequest(MakePrompt(50 + i, 9 * i + 1), 30));
    calls.emplace_back(*crowd.engine, sampled(i));
  }
  std::vector<std::vector<TokenId>> outputs;
  for (Call& call : calls) outputs.push_back(call.Read().tokens());
  EXPECT_EQ(outputs[3], expected);  // seed 1
  EXPECT_NE(outputs[1], expected);
}

TEST_P(EngineSteps, PreemptionInATinyPoolChangesNoToken) {
  EngineOptions options = SmallEngineOptions();
  options.scheduler.num_blocks = 10;  // 160 tokens for eight sequences of up to 100
  EngineHarness harness(options, GetParam());
  std::vector<Call> calls;
  for (uint32_t i = 0; i < 32; ++i) {
    calls.emplace_back(*harness.engine, MakeRequest(MakePrompt(i, 20 + i % 7), 70));
  }
  for (uint32_t i = 0; i < 32; ++i) {
    EXPECT_EQ(calls[i].Read().tokens(), FakeModel::GreedyOutput(MakePrompt(i, 20 + i % 7), 70));
  }
  EXPECT_GT(MetricValue(harness.metrics, "vllm:num_preemptions_total"), 0);
}

TEST_P(EngineSteps, PrefixHitsAreToldAndCounted) {
  EngineHarness harness(GetParam());
  const std::vector<TokenId> prompt = MakePrompt(9, 100);
  Call cold(*harness.engine, MakeRequest(prompt, 4));
  const Received first = cold.Read();
  EXPECT_EQ(first.events[0].num_cached_tokens, 0u);
  Call warm(*harness.engine, MakeRequest(prompt, 4));
  const Received second = warm.Read();
  EXPECT_EQ(second.events[0].num_cached_tokens, 96u);
  EXPECT_EQ(second.events[1].num_cached_tokens, 0u);  // on the first event only
  EXPECT_EQ(second.tokens(), first.tokens());
  EXPECT_EQ(MetricValue(harness.metrics, "vllm:prefix_cache_queries_total"), 200);
  EXPECT_EQ(MetricValue(harness.metrics, "vllm:prefix_cache_hits_total"), 96);
  EXPECT_EQ(MetricValue(harness.metrics, "vllm:prompt_tokens_cached_total"), 96);
}

TEST_P(EngineSteps, TwoOfOneCallShareTheirPromptsWork) {
  EngineHarness harness(GetParam());
  const auto signal = std::make_shared<ChannelSignal>();
  const auto channels = harness.engine->Submit(
      {MakeRequest(MakePrompt(9, 100), 4), MakeRequest(MakePrompt(9, 100), 4)}, signal);
  ASSERT_TRUE(channels.has_value());
  const Received first = ReadAll(*(*channels)[0], *signal);
  const Received second = ReadAll(*(*channels)[1], *signal);
  EXPECT_EQ(first.tokens(), second.tokens());
  EXPECT_EQ(first.events[0].num_cached_tokens + second.events[0].num_cached_tokens, 96u);
}

TEST_P(EngineSteps, LogprobsOfSampledTokens) {
  EngineHarness harness(GetParam());
  Request request = MakeRequest(MakePrompt(4, 10), 3);
  request.sampling.num_logprobs = 2;
  Call call(*harness.engine, request);
  const Received received = call.Read();
  ASSERT_EQ(received.events.size(), 3u);
  for (const TokenEvent& event : received.events) {
    ASSERT_NE(event.logprobs, nullptr);
    EXPECT_EQ(event.logprobs->chosen.token, event.token);
    EXPECT_EQ(event.logprobs->chosen_rank, 1u);
    EXPECT_LT(event.logprobs->chosen.logprob, 0.0f);
    ASSERT_EQ(event.logprobs->top.size(), 2u);
    EXPECT_EQ(event.logprobs->top[0].token, event.token);
  }
}

TEST_P(EngineSteps, PromptLogprobsOverSeveralSteps) {
  for (const uint32_t max_tokens : {0u, 2u}) {
    EngineHarness harness(GetParam());
    const std::vector<TokenId> prompt = MakePrompt(4, 150);
    Request request = MakeRequest(prompt, max_tokens);
    request.sampling.num_prompt_logprobs = 1;
    Call call(*harness.engine, request);
    const Received received = call.Read();
    EXPECT_EQ(received.tokens(), FakeModel::GreedyOutput(prompt, max_tokens));
    EXPECT_EQ(received.last().finish, FinishReason::kLength);
    ASSERT_NE(received.events[0].prompt_logprobs, nullptr);
    const std::vector<PositionLogprobs>& logprobs = *received.events[0].prompt_logprobs;
    ASSERT_EQ(logprobs.size(), 149u);
    for (size_t i = 0; i < logprobs.size(); ++i) {
      EXPECT_EQ(logprobs[i].chosen.token, prompt[i + 1]);
      const std::vector<TokenId> before(prompt.begin(), prompt.begin() + i + 1);
      EXPECT_EQ(logprobs[i].top[0].token, FakeModel::GreedyOutput(before, 1)[0]);
    }
  }
}

TEST_P(EngineSteps, LogitsThatAreNotFiniteEndThatRequestAlone) {
  const std::vector<TokenId> prompt = MakePrompt(1, 10);
  const std::vector<TokenId> expected = FakeModel::GreedyOutput(prompt, 5);
  TokenId bad{0};  // one that the good request never meets
  while (std::count(prompt.begin(), prompt.end(), bad) > 0 ||
         std::count(expected.begin(), expected.end(), bad) > 0) {
    ++bad.value;
  }
  std::vector<TokenId> bad_prompt = prompt;
  bad_prompt[5] = bad;
  EngineHarness harness(SmallEngineOptions(), GetParam(), bad);

  Request echo = MakeRequest(bad_prompt, 0);
  echo.sampling.num_prompt_logprobs = 0;
  Call failing(*harness.engine, MakeRequest(bad_prompt, 5));
  Call failing_echo(*harness.engine, echo);
  Call good(*harness.engine, MakeRequest(prompt, 5));
  for (Call* call : {&failing, &failing_echo}) {
    const Received received = call->Read();
    EXPECT_EQ(received.last().finish, FinishReason::kError);
    EXPECT_FALSE(received.last().has_token);
    EXPECT_THAT(received.last().error, HasSubstr("not finite"));
  }
  const Received received = good.Read();
  EXPECT_EQ(received.tokens(), expected);
  EXPECT_TRUE(received.last().error.empty());
  EXPECT_EQ(MetricValue(harness.metrics, "vllm:request_success_total", {"\"error\""}), 2);
}

TEST_P(EngineSteps, ARequestThatCanNeverFitIsRefused) {
  EngineOptions options = SmallEngineOptions();
  options.scheduler.num_blocks = 4;  // 64 tokens
  EngineHarness harness(options, GetParam());
  const auto refused =
      harness.engine->Submit({MakeRequest(MakePrompt(1, 10), 5), MakeRequest(MakePrompt(1, 60), 5)},
                             std::make_shared<ChannelSignal>());
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), Code::kInvalidArgument);
  EXPECT_THAT(refused.error().message(), HasSubstr("60 tokens"));
  Call fits(*harness.engine, MakeRequest(MakePrompt(1, 59), 5));
  EXPECT_EQ(fits.Read().tokens().size(), 5u);
}

TEST_P(EngineSteps, InfoTellsTheProcesssConstants) {
  EngineHarness harness(GetParam());
  const EngineInfo& info = harness.engine->info();
  EXPECT_EQ(info.max_model_len, 512u);
  EXPECT_EQ(info.vocab_size, 128u);
  EXPECT_EQ(info.kv_pool_tokens, 1024u);
  EXPECT_TRUE(info.enable_prefix_caching);
  EXPECT_EQ(info.block_size, 16u);
}

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

TEST_P(EngineSteps, IdleIsAliveWithoutBeingBusy) {
  EngineHarness harness(GetParam());
  Call call(*harness.engine, MakeRequest(MakePrompt(1, 10), 3));
  call.Read();
  const double before = CpuSeconds();
  std::this_thread::sleep_for(milliseconds(800));
  EXPECT_LT(CpuSeconds() - before, 0.3);
  EXPECT_LT(harness.engine->SecondsSinceHeartbeat(), 0.75);
}

TEST_P(EngineSteps, AStuckStepShowsInTheHeartbeat) {
  EngineHarness harness(GetParam());
  harness.gate.Close();
  Call call(*harness.engine, MakeRequest(MakePrompt(1, 10), 3));
  harness.gate.WaitUntilHeld();
  std::this_thread::sleep_for(milliseconds(100));
  EXPECT_GE(harness.engine->SecondsSinceHeartbeat(), 0.09);
  harness.gate.Open();
  call.Read();
}

KvCacheFacts LargerCache() {
  return {.layout = SmallEngineOptions().kv_layout,
          .num_blocks = 64,
          .identity = 5,
          .scale_source = "requests"};
}

void ExpectOneSwitchThatChangesNoOutput(bool pipelined) {
  std::atomic<int> num_switches{0};
  EngineOptions options = SmallEngineOptions();
  options.kv_scale_source = "requests_awaited";
  options.num_requests_before_switch = 3;
  options.switch_kv_cache = [&]() -> std::optional<KvCacheFacts> {
    ++num_switches;
    return LargerCache();
  };
  EngineHarness harness(options, pipelined);
  for (int i = 0; i < 2; ++i) {
    Call call(*harness.engine, MakeRequest(MakePrompt(1, 20), 2));
    call.Read();
  }
  EXPECT_EQ(num_switches, 0);
  EXPECT_EQ(MetricValue(harness.metrics, "kvserve_kv_scales_info", {"requests_awaited"}), 1);

  // The third request ends while others run, wait, and share its prefix.
  std::vector<Call> calls;
  harness.gate.Close();  // until all are there
  calls.emplace_back(*harness.engine, MakeRequest(MakePrompt(1, 20), 2));
  for (uint32_t i = 0; i < 12; ++i) {
    calls.emplace_back(*harness.engine, MakeRequest(MakePrompt(i, 40), 30));
  }
  harness.gate.Open();
  calls[0].Read();
  for (uint32_t i = 0; i < 12; ++i) {
    EXPECT_EQ(calls[i + 1].Read().tokens(), FakeModel::GreedyOutput(MakePrompt(i, 40), 30));
  }
  EXPECT_EQ(num_switches, 1);
  EXPECT_EQ(MetricValue(harness.metrics, "kvserve_kv_scales_info", {"requests\""}), 1);
  EXPECT_EQ(harness.metrics.Serialize().find("requests_awaited"), std::string::npos);
  EXPECT_GT(MetricValue(harness.metrics, "vllm:num_preemptions_total"), 0);
}

TEST(Engine, TheCacheIsSwitchedOnceAfterSoManyRequestsAndNoOutputChanges) {
  ExpectOneSwitchThatChangesNoOutput(false);
  ExpectOneSwitchThatChangesNoOutput(true);
}

TEST(Engine, ASwitchThatFailsChangesNothingAndIsTriedAgain) {
  std::atomic<int> num_switches{0};
  EngineOptions options = SmallEngineOptions();
  options.num_requests_before_switch = 2;
  options.switch_kv_cache = [&]() -> std::optional<KvCacheFacts> {
    ++num_switches;
    return std::nullopt;
  };
  EngineHarness harness(options);
  for (int i = 0; i < 5; ++i) {
    Call call(*harness.engine, MakeRequest(MakePrompt(1, 40), 2));
    EXPECT_EQ(call.Read().events[0].num_cached_tokens, i == 0 ? 0u : 32u);
  }
  EXPECT_EQ(num_switches, 2);
}

}  // namespace
}  // namespace kvs::test
