// The whole command against a small server.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "canned_openai.h"
#include "client/client.h"

namespace kvs {
namespace {

using testing::HasSubstr;

struct BenchOutcome {
  int exit_code;
  nlohmann::json report;
};

BenchOutcome BenchReport(BenchCommand command) {
  command.json = true;
  testing::internal::CaptureStdout();
  const int exit_code = RunBench(command);
  return {exit_code, nlohmann::json::parse(testing::internal::GetCapturedStdout())};
}

BenchCommand SmallBench(const std::string& url) {
  BenchCommand command;
  command.url = url;
  command.num_prompts = 12;
  command.concurrency = 3;
  command.prompt_tokens = 100;
  command.output_tokens = 5;
  return command;
}

TEST(Bench, ClosedLoopCountsExactly) {
  CannedOpenAi server({});
  const BenchOutcome outcome = BenchReport(SmallBench(server.url()));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.report;
  const auto& report = outcome.report;
  EXPECT_EQ(report["completed"], 12);
  EXPECT_EQ(report["exact_prompts"], true);
  EXPECT_EQ(report["total_prompt_tokens"], 1200);
  EXPECT_EQ(report["total_output_tokens"], 60);
  EXPECT_EQ(report["total_cached_tokens"], 0);
  EXPECT_EQ(report["inter_token_latency_ms"]["count"], 48);
  EXPECT_GT(report["request_throughput"], 0);
  EXPECT_LE(report["time_to_first_token_ms"]["p50"], report["time_to_first_token_ms"]["p99"]);
  EXPECT_TRUE(report["errors"].empty());
}

TEST(Bench, SharedPrefixesAreHit) {
  CannedOpenAi server({});
  BenchCommand command = SmallBench(server.url());
  command.shared_prefix_tokens = 64;
  command.num_prefixes = 2;
  command.concurrency = 1;
  const BenchOutcome outcome = BenchReport(command);
  EXPECT_EQ(outcome.exit_code, 0);
  // The first request of each prefix is cold, the other ten reuse four blocks.
  EXPECT_EQ(outcome.report["total_cached_tokens"], 10 * 64);
  EXPECT_DOUBLE_EQ(outcome.report["prefix_cache_hit_rate"], 640.0 / 1200.0);
}

TEST(Bench, TextPromptsWhereThereIsNoTokenize) {
  CannedOpenAi server({.has_tokenize = false});
  const BenchOutcome outcome = BenchReport(SmallBench(server.url()));
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.report["exact_prompts"], false);
  EXPECT_EQ(outcome.report["total_prompt_tokens"], 1200);  // a word is a token there
  EXPECT_TRUE(server.asks().at(1)["prompt"].is_string());
}

TEST(Bench, SameSeedSamePromptsInAColdScope) {
  CannedOpenAi server({});
  BenchCommand command = SmallBench(server.url());
  command.concurrency = 1;
  BenchReport(command);
  BenchReport(command);
  command.seed = 1;
  BenchReport(command);
  const auto asks = server.asks();
  ASSERT_EQ(asks.size(), 36u);
  EXPECT_EQ(asks[0]["prompt"], asks[12]["prompt"]);
  EXPECT_NE(asks[0]["prompt"], asks[24]["prompt"]);
  EXPECT_EQ(asks[0]["cache_salt"], asks[11]["cache_salt"]);
  EXPECT_NE(asks[0]["cache_salt"], asks[12]["cache_salt"]);
}

TEST(Bench, OpenLoopKeepsItsRate) {
  CannedOpenAi server({});
  BenchCommand command = SmallBench(server.url());
  command.request_rate = 100.0;
  const BenchOutcome outcome = BenchReport(command);
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.report["completed"], 12);
  EXPECT_EQ(outcome.report["request_rate"], 100.0);
}

TEST(Bench, CountsErrorsByKind) {
  CannedOpenAi server({.fail_every = 3});
  const BenchOutcome outcome = BenchReport(SmallBench(server.url()));
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.report["completed"], 8);
  EXPECT_EQ(outcome.report["errors"]["http 503"]["count"], 4);
  EXPECT_THAT(outcome.report["errors"]["http 503"]["example"], HasSubstr("too busy"));
}

TEST(Bench, PrintsATable) {
  CannedOpenAi server({});
  testing::internal::CaptureStdout();
  EXPECT_EQ(RunBench(SmallBench(server.url())), 0);
  const std::string text = testing::internal::GetCapturedStdout();
  for (const char* part : {"closed loop, 3 at a time", "12 of 12 requests completed", "p99",
                           "inter-token latency", "output throughput", "prefix cache hits"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

TEST(Bench, RefusesLengthsThatDoNotFit) {
  CannedOpenAi server({});
  const auto refused = [&](auto change, const char* want) {
    BenchCommand command = SmallBench(server.url());
    change(command);
    testing::internal::CaptureStderr();
    EXPECT_EQ(RunBench(command), 2);
    EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr(want));
  };
  refused([](auto& c) { c.shared_prefix_tokens = 101; }, "--shared-prefix-tokens 101");
  refused([](auto& c) { c.prompt_tokens = 8190; }, "do not fit the model's 8192 tokens");
}

}  // namespace
}  // namespace kvs
