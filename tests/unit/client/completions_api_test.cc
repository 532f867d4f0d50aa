#include "client/completions_api.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "canned_openai.h"
#include "support/canned_server.h"

namespace kvs {
namespace {

using testing::HasSubstr;

CompletionsApi ApiOf(const std::string& url, const std::string& key = "") {
  return CompletionsApi(*ParseUrl(url), key);
}

TEST(CompletionsApi, FindsModels) {
  CannedOpenAi server({});
  CompletionsApi api = ApiOf(server.url());
  const auto first = api.FindModel("");
  ASSERT_TRUE(first) << first.error().message();
  EXPECT_EQ(first->id, "canned");
  EXPECT_EQ(first->max_model_len, 8192u);
  const auto other = api.FindModel("other");
  ASSERT_TRUE(other);
  EXPECT_EQ(other->max_model_len, std::nullopt);
  const auto missing = api.FindModel("gpt");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code(), Code::kNotFound);
  EXPECT_THAT(missing.error().message(), HasSubstr("'gpt'"));
  EXPECT_THAT(missing.error().message(), HasSubstr("canned, other"));
}

TEST(CompletionsApi, CompletesWithUsageAndTimes) {
  CannedOpenAi server({});
  CompletionsApi api = ApiOf(server.url());
  CompletionAsk ask;
  ask.model = "canned";
  ask.prompt = PromptIds{1, 2, 3};
  ask.max_tokens = 4;
  ask.exact_length = true;
  ask.cache_salt = "s";
  const auto completion = api.Complete(ask);
  ASSERT_TRUE(completion) << completion.error().status.message();
  EXPECT_EQ(completion->text, " w w w w");
  EXPECT_EQ(completion->finish_reason, "length");
  ASSERT_TRUE(completion->usage);
  EXPECT_EQ(completion->usage->prompt_tokens, 3u);
  EXPECT_EQ(completion->usage->completion_tokens, 4u);
  EXPECT_EQ(completion->usage->cached_tokens, 0u);
  EXPECT_EQ(completion->gaps_s.size(), 3u);
  EXPECT_GT(completion->first_token_s, 0.0);
  EXPECT_GE(completion->total_s, completion->first_token_s);
  const auto sent = server.asks().at(0);
  EXPECT_EQ(sent["prompt"], nlohmann::json({1, 2, 3}));
  EXPECT_EQ(sent["temperature"], 0);
  EXPECT_EQ(sent["ignore_eos"], true);
  EXPECT_EQ(sent["min_tokens"], 4);
  EXPECT_EQ(sent["cache_salt"], "s");
  EXPECT_EQ(sent["stream_options"]["include_usage"], true);
}

TEST(CompletionsApi, SendsExtensionsOnlyWhenAsked) {
  CannedOpenAi server({});
  CompletionsApi api = ApiOf(server.url());
  ASSERT_TRUE(api.Complete({"canned", PromptText{" a b"}, 1, false, ""}));
  const auto sent = server.asks().at(0);
  EXPECT_EQ(sent["prompt"], " a b");
  EXPECT_FALSE(sent.contains("ignore_eos"));
  EXPECT_FALSE(sent.contains("min_tokens"));
  EXPECT_FALSE(sent.contains("cache_salt"));
}

struct BadStream {
  std::vector<std::string> pieces;
  const char* kind;
  const char* message;
  Code code;
};

TEST(CompletionsApi, NamesEachKindOfFailure) {
  const std::vector<BadStream> cases = {
      {{CannedResponse(503, R"({"error":{"message":"too busy"}})")},
       "http 503",
       "answered 503: too busy",
       Code::kUnavailable},
      {{CannedResponse(400, R"({"error":{"message":"max_tokens is -1"}})")},
       "http 400",
       "max_tokens is -1",
       Code::kInvalidArgument},
      {{CannedResponse(401, R"({"error":"Unauthorized"})")},
       "http 401",
       "Unauthorized",
       Code::kUnauthenticated},
      {{CannedResponse(502, "<html>bad gateway")}, "http 502", "<html>", Code::kUnavailable},
      {{CannedResponse(200, "{}")}, "stream", "before its [DONE]", Code::kUnavailable},
      {CannedStream({R"({"choices":[{"text":"a"}]})"}), "stream", "before its [DONE]",
       Code::kUnavailable},
      {CannedStream({"{not json", "[DONE]"}), "stream", "not JSON", Code::kUnavailable},
      {CannedStream({R"({"error":{"message":"logits are not finite"}})", "[DONE]"}), "stream",
       "logits are not finite", Code::kUnavailable},
      {{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ndat"},
       "transport",
       "closed before",
       Code::kUnavailable},
  };
  for (const BadStream& c : cases) {
    CannedServer server([&](const CannedRequest&) { return c.pieces; });
    CompletionsApi api = ApiOf(server.url());
    const auto completion = api.Complete({"m", PromptText{"a"}, 1, false, ""});
    ASSERT_FALSE(completion) << c.message;
    EXPECT_EQ(completion.error().kind, c.kind);
    EXPECT_EQ(completion.error().status.code(), c.code) << c.message;
    EXPECT_THAT(completion.error().status.message(), HasSubstr(c.message));
  }
}

TEST(CompletionsApi, AFirstTokenWithoutTextStillHasATime) {
  CannedServer server([](const CannedRequest&) {
    return CannedStream({R"({"choices":[{"text":"","finish_reason":"stop"}]})", "[DONE]"});
  });
  CompletionsApi api = ApiOf(server.url());
  const auto completion = api.Complete({"m", PromptText{"a"}, 1, false, ""});
  ASSERT_TRUE(completion);
  EXPECT_GT(completion->first_token_s, 0.0);
  EXPECT_TRUE(completion->gaps_s.empty());
  EXPECT_FALSE(completion->usage);
  EXPECT_EQ(completion->finish_reason, "stop");
}

TEST(CompletionsApi, TokenizeIsOptional) {
  CannedOpenAi with({}), without({.has_tokenize = false});
  CompletionsApi api = ApiOf(with.url());
  const auto ids = api.Tokenize("canned", " a b a");
  ASSERT_TRUE(ids);
  EXPECT_EQ(*ids, (PromptIds{0, 1, 0}));
  CompletionsApi bare = ApiOf(without.url());
  EXPECT_FALSE(bare.Tokenize("canned", " a"));
}

TEST(CompletionsApi, ReadsMetricsThatAreThere) {
  const CacheMetrics full = CacheMetricsOf(
      "vllm:cache_config_info{block_size=\"32\",enable_prefix_caching=\"true\"} 1\n"
      "vllm:prefix_cache_queries_total{engine=\"0\"} 100\n"
      "vllm:prefix_cache_queries_total{engine=\"1\"} 20\n"
      "vllm:prefix_cache_hits_total{engine=\"0\"} 50\n");
  ASSERT_TRUE(full.counters);
  EXPECT_EQ(full.counters->queries, 120u);
  EXPECT_EQ(full.counters->hits, 50u);
  EXPECT_EQ(full.block_size, 32u);
  EXPECT_EQ(full.enable_prefix_caching, true);

  const CacheMetrics scales = CacheMetricsOf(
      "vllm:cache_config_info{cache_dtype=\"fp8_e4m3\"} 1\n"
      "kvserve_kv_scales_info{source=\"checkpoint\"} 1\n");
  EXPECT_EQ(scales.kv_cache_dtype, "fp8_e4m3");
  EXPECT_EQ(scales.kv_scale_source, "checkpoint");
  const CacheMetrics none = CacheMetricsOf("vllm:cache_config_info{block_size=\"None\"} 1\n");
  EXPECT_FALSE(none.counters);
  EXPECT_FALSE(none.block_size);
  EXPECT_FALSE(none.enable_prefix_caching);
  EXPECT_EQ(CacheMetricsOf("vllm:cache_config_info{enable_prefix_caching=\"False\"} 1\n")
                .enable_prefix_caching,
            false);
}

}  // namespace
}  // namespace kvs
