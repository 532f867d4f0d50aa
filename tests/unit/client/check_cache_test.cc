// The whole command against a small server.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "canned_openai.h"
#include "client/client.h"

namespace kvs {
namespace {

using testing::HasSubstr;

struct Outcome {
  int exit_code;
  nlohmann::json report;
};

Outcome CheckJson(const std::string& url, uint32_t prompt_tokens = 500) {
  CheckCacheCommand command;
  command.url = url;
  command.prompt_tokens = prompt_tokens;
  command.max_tokens = 4;
  command.json = true;
  testing::internal::CaptureStdout();
  const int exit_code = RunCheckCache(command);
  return {exit_code, nlohmann::json::parse(testing::internal::GetCapturedStdout())};
}

TEST(CheckCache, PassesWhereBlocksAreReused) {
  CannedOpenAi server({});
  const Outcome outcome = CheckJson(server.url());
  EXPECT_EQ(outcome.exit_code, 0);
  const auto& report = outcome.report;
  EXPECT_EQ(report["verdict"], "PASS") << report;
  EXPECT_GE(report["second"]["prompt_tokens"], 500);
  EXPECT_EQ(report["first"]["cached_tokens"], 0);
  const uint32_t prompt = report["second"]["prompt_tokens"];
  EXPECT_EQ(report["second"]["cached_tokens"], (prompt - 1) / 16 * 16);
  EXPECT_EQ(report["second"]["prefix_cache_hits_growth"], report["second"]["cached_tokens"]);
  EXPECT_EQ(report["second"]["prefix_cache_queries_growth"], prompt);
  EXPECT_EQ(report["block_size"], 16);
  EXPECT_EQ(report["identical_text"], true);
}

TEST(CheckCache, SendsAPromptOfItsOwnEachTime) {
  CannedOpenAi server({});
  EXPECT_EQ(CheckJson(server.url()).exit_code, 0);
  EXPECT_EQ(CheckJson(server.url()).exit_code, 0);
  const auto asks = server.asks();  // probe, cold, warm; twice
  ASSERT_EQ(asks.size(), 6u);
  EXPECT_EQ(asks[1]["prompt"], asks[2]["prompt"]);
  EXPECT_NE(asks[1]["prompt"], asks[4]["prompt"]);
}

TEST(CheckCache, PassesOnUsageAlone) {
  CannedOpenAi server({.has_metrics = false});
  const Outcome outcome = CheckJson(server.url());
  EXPECT_EQ(outcome.exit_code, 0) << outcome.report;
  EXPECT_TRUE(outcome.report["second"]["prefix_cache_hits_growth"].is_null());
}

TEST(CheckCache, PassesOnCountersAlone) {
  CannedOpenAi server({.reports_cached_tokens = false});
  const Outcome outcome = CheckJson(server.url());
  EXPECT_EQ(outcome.exit_code, 0) << outcome.report;
  EXPECT_TRUE(outcome.report["second"]["cached_tokens"].is_null());
}

TEST(CheckCache, FailsWithTheReason) {
  CannedOpenAi disabled({.prefix_caching = false});
  Outcome outcome = CheckJson(disabled.url());
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.report["verdict"], "FAIL");
  EXPECT_THAT(outcome.report["reason"], HasSubstr("--enable-prefix-caching"));

  CannedOpenAi silent({.reports_cached_tokens = false, .has_metrics = false});
  outcome = CheckJson(silent.url());
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.report["reason"], HasSubstr("cannot be shown"));

  CannedOpenAi moody({.same_text = false});
  outcome = CheckJson(moody.url());
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.report["reason"], HasSubstr("text differs"));

  CannedOpenAi good({});
  outcome = CheckJson(good.url(), 1);
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.report["reason"], HasSubstr("holds no block of 16"));
}

TEST(CheckCache, TakesAnotherTextForRoundingWhereLogProbabilitiesSaySo) {
  CannedOpenAi rounds({.same_text = false, .has_logprobs = true});
  const Outcome close = CheckJson(rounds.url());
  EXPECT_EQ(close.exit_code, 0) << close.report;
  EXPECT_EQ(close.report["identical_text"], false);
  EXPECT_EQ(close.report["text_distance"]["gap_nats"], 0.25);
  EXPECT_TRUE(close.report["batch_invariant"].is_null());
  EXPECT_THAT(close.report["warnings"].dump(), HasSubstr("--batch-invariant"));

  CannedOpenAi promises({.same_text = false, .has_logprobs = true, .promises_bits = true});
  const Outcome broken = CheckJson(promises.url());
  EXPECT_EQ(broken.exit_code, 1);
  EXPECT_EQ(broken.report["batch_invariant"], true);
  EXPECT_THAT(broken.report["reason"], HasSubstr("computes the same bits behind a hit"));
}

TEST(CheckCache, ComparesTextsAloneWhereLogProbabilitiesAreRefused) {
  CannedOpenAi server({.refuses_logprobs = true});
  const Outcome outcome = CheckJson(server.url());
  EXPECT_EQ(outcome.exit_code, 0) << outcome.report;
  EXPECT_EQ(outcome.report["identical_text"], true);
  EXPECT_TRUE(outcome.report["text_distance"].is_null());

  CannedOpenAi moody({.same_text = false, .refuses_logprobs = true});
  const Outcome differs = CheckJson(moody.url());
  EXPECT_EQ(differs.exit_code, 1);
  EXPECT_THAT(differs.report["reason"], HasSubstr("sends no log probabilities"));
}

TEST(CheckCache, PrintsATable) {
  CannedOpenAi server({});
  CheckCacheCommand command;
  command.url = server.url();
  testing::internal::CaptureStdout();
  EXPECT_EQ(RunCheckCache(command), 0);
  const std::string text = testing::internal::GetCapturedStdout();
  for (const char* part : {"model canned", "block size 16", "time to first token", "cached tokens",
                           "prefix_cache_hits_total", "text identical", "\nPASS: "}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

TEST(CheckCache, ExitCodesSayWhatStoppedIt) {
  CannedOpenAi server({.api_key = "right"});
  CheckCacheCommand command;
  const auto run = [&command](const char* want) {
    testing::internal::CaptureStderr();
    const int code = RunCheckCache(command);
    EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr(want));
    return code;
  };
  command.url = "127.0.0.1:1";
  EXPECT_EQ(run("no scheme"), 2);
  command.url = server.url();
  EXPECT_EQ(run("no such key"), 77);
  command.api_key = "right";
  command.model = "gpt";
  EXPECT_EQ(run("'gpt' is not served"), 66);
  command.model = "";
  command.prompt_tokens = 8190;
  EXPECT_EQ(run("do not fit the model's 8192 tokens"), 2);
  {
    CannedOpenAi gone({});
    command.url = gone.url();
  }
  EXPECT_EQ(run("refused"), 69);
}

}  // namespace
}  // namespace kvs
