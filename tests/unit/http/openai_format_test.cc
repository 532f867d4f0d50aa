#include "http/openai_format.h"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "fake_tokenizer.h"
#include "http/json_text.h"

namespace kvs {
namespace {

using nlohmann::json;
using testing::FakeTokenizer;

AnswerHead CompletionHead() { return {"cmpl-\"7\"", "a\\b", "kvserve-1", 1234567890}; }

json ChunkOf(const std::string& event) {
  EXPECT_EQ(event.substr(0, 6), "data: ");
  EXPECT_EQ(event.substr(event.size() - 2), "\n\n");
  EXPECT_EQ(event.find('\n'), event.size() - 2) << "an event is one line";
  return json::parse(event.substr(6));
}

TEST(JsonText, EscapesWhatJsonMust) {
  std::string all;
  for (int c = 0; c < 128; ++c) all.push_back(static_cast<char>(c));
  all += "\u00e9\U0001F600";
  std::string out;
  AppendJsonString(all, out);
  EXPECT_EQ(json::parse(out).get<std::string>(), all);
}

TEST(JsonText, ReplacesWhatIsNotUtf8) {
  std::string out;
  AppendJsonString("a\x80\xe2\x82", out);
  EXPECT_EQ(json::parse(out).get<std::string>(), "a\ufffd\ufffd");
}

TEST(OpenaiFormat, UsageAlwaysHasCachedTokens) {
  std::string out;
  AppendUsage({7, 5, 0}, out);
  EXPECT_EQ(json::parse(out), json::parse(R"({"prompt_tokens":7,"completion_tokens":5,
    "total_tokens":12,"prompt_tokens_details":{"cached_tokens":0}})"));
}

TEST(OpenaiFormat, ChunkOfRunningChoice) {
  const FakeTokenizer tokenizer;
  CompletionFormat format(CompletionHead(), /*with_usage_field=*/false, tokenizer);
  std::string out;
  format.AppendChunk({3, "a\"\n\u00e9", nullptr, nullptr}, nullptr, out);
  EXPECT_EQ(ChunkOf(out), json::parse(R"({"id":"cmpl-\"7\"","object":"text_completion",
    "created":1234567890,"model":"a\\b","system_fingerprint":"kvserve-1","choices":[{"index":3,
    "text":"a\"\né","logprobs":null,"finish_reason":null,"stop_reason":null}]})"));
}

TEST(OpenaiFormat, LastChunkSaysWhy) {
  const FakeTokenizer tokenizer;
  CompletionFormat format(CompletionHead(), /*with_usage_field=*/true, tokenizer);
  std::string out;
  const ChoiceEnd end{"stop", "\"END\""};
  format.AppendChunk({0, "", nullptr, &end}, nullptr, out);
  const json chunk = ChunkOf(out);
  EXPECT_EQ(chunk["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(chunk["choices"][0]["stop_reason"], "END");
  EXPECT_TRUE(chunk.contains("usage") && chunk["usage"].is_null());
}

TEST(OpenaiFormat, UsageChunks) {
  const FakeTokenizer tokenizer;
  CompletionFormat format(CompletionHead(), /*with_usage_field=*/true, tokenizer);
  const Usage usage{7, 5, 4};
  std::string last;
  format.AppendUsageChunk(usage, last);
  EXPECT_EQ(ChunkOf(last)["choices"], json::array());
  EXPECT_EQ(ChunkOf(last)["usage"]["prompt_tokens_details"]["cached_tokens"], 4);
  std::string running;
  format.AppendChunk({0, "x", nullptr, nullptr}, &usage, running);
  EXPECT_EQ(ChunkOf(running)["usage"]["total_tokens"], 12);
}

TEST(OpenaiFormat, Logprobs) {
  const FakeTokenizer tokenizer;
  CompletionLogprobs logprobs(tokenizer);
  logprobs.AddUnknown({'h'}, 0);
  logprobs.Add(
      {{{'i'}, -0.25f}, 2, {{{'a'}, -0.125f}, {{0xe2}, -std::numeric_limits<float>::infinity()}}},
      1);
  std::string out;
  logprobs.Append(out);
  EXPECT_EQ(json::parse(out), json::parse(R"({"tokens":["h","i"],"token_logprobs":[null,-0.25],
    "top_logprobs":[null,{"a":-0.125,"bytes:\\xe2":-9999.0,"i":-0.25}],"text_offset":[0,1]})"));
  logprobs.Clear();
  EXPECT_TRUE(logprobs.empty());
}

TEST(OpenaiFormat, ChosenIsNotRepeatedAmongTheTop) {
  const FakeTokenizer tokenizer;
  CompletionLogprobs logprobs(tokenizer);
  logprobs.Add({{{'i'}, -0.25f}, 1, {{{'i'}, -0.25f}}}, 0);
  logprobs.Add({{{'i'}, -0.25f}, 1, {}}, 1);
  std::string out;
  logprobs.Append(out);
  EXPECT_EQ(out.find(R"({"i":-0.25},{"i":-0.25})") != std::string::npos, true) << out;
}

TEST(OpenaiFormat, LogprobsOfNothingAreNullInAChunkAndEmptyInAWholeAnswer) {
  const FakeTokenizer tokenizer;
  CompletionFormat format(CompletionHead(), /*with_usage_field=*/false, tokenizer);
  const auto logprobs = format.NewLogprobs();
  const ChoiceEnd end{"stop", "null"};
  const ChoicePiece piece{0, "", logprobs.get(), &end};
  std::string chunk;
  format.AppendChunk(piece, nullptr, chunk);
  EXPECT_TRUE(ChunkOf(chunk)["choices"][0]["logprobs"].is_null());
  const json whole = json::parse(format.Whole({piece}, {}));
  EXPECT_EQ(whole["choices"][0]["logprobs"]["tokens"], json::array());
}

TEST(OpenaiFormat, WholeAnswer) {
  const ChoiceEnd stop{"stop", "42"};
  const ChoiceEnd length{"length", "null"};
  const FakeTokenizer tokenizer;
  CompletionFormat format(CompletionHead(), /*with_usage_field=*/false, tokenizer);
  const json answer = json::parse(
      format.Whole({{0, "one", nullptr, &stop}, {1, "two", nullptr, &length}}, {3, 2, 1}));
  EXPECT_EQ(answer["object"], "text_completion");
  EXPECT_EQ(answer["choices"][0]["stop_reason"], 42);
  EXPECT_EQ(answer["choices"][1]["text"], "two");
  EXPECT_EQ(answer["choices"][1]["finish_reason"], "length");
  EXPECT_EQ(answer["usage"]["total_tokens"], 5);
}

}  // namespace
}  // namespace kvs
