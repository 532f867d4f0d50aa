#include "http/chat_format.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fake_tokenizer.h"

namespace kvs {
namespace {

using nlohmann::json;
using testing::FakeTokenizer;

AnswerHead ChatHead() { return {"chatcmpl-7", "tiny", "kvserve-1", 1234567890}; }

// The chunks of a stream, or of a part of one.
std::vector<json> Chunks(const std::string& events) {
  std::vector<json> chunks;
  for (size_t at = 0; at < events.size();) {
    EXPECT_EQ(events.substr(at, 6), "data: ");
    const size_t end = events.find("\n\n", at);
    chunks.push_back(json::parse(events.substr(at + 6, end - at - 6)));
    at = end + 2;
  }
  return chunks;
}

json DeltaOf(const json& chunk) { return chunk["choices"][0]["delta"]; }

const FakeTokenizer kTokenizer;
const ChoiceEnd kStop{"stop", "null"};

TEST(ChatFormat, StreamBeginsWithTheRoleAndEndsWithTheReason) {
  ChatFormat format(ChatHead(), {}, /*with_usage_field=*/false, kTokenizer);
  std::string out;
  format.AppendChunk({0, "Hi", nullptr, nullptr}, nullptr, out);
  format.AppendChunk({0, "!", nullptr, &kStop}, nullptr, out);
  const auto chunks = Chunks(out);
  ASSERT_EQ(chunks.size(), 4u);
  EXPECT_EQ(chunks[0]["object"], "chat.completion.chunk");
  EXPECT_EQ(DeltaOf(chunks[0]), json::parse(R"({"role":"assistant","content":""})"));
  EXPECT_EQ(DeltaOf(chunks[1]), json::parse(R"({"content":"Hi"})"));
  EXPECT_EQ(DeltaOf(chunks[2]), json::parse(R"({"content":"!"})"));
  EXPECT_TRUE(chunks[2]["choices"][0]["finish_reason"].is_null());
  EXPECT_EQ(DeltaOf(chunks[3]), json::object());
  EXPECT_EQ(chunks[3]["choices"][0]["finish_reason"], "stop");
  EXPECT_FALSE(chunks[3].contains("usage"));
}

TEST(ChatFormat, UsageFieldAndChunk) {
  ChatFormat format(ChatHead(), {}, /*with_usage_field=*/true, kTokenizer);
  std::string out;
  format.AppendChunk({0, "x", nullptr, nullptr}, nullptr, out);
  EXPECT_TRUE(Chunks(out)[1]["usage"].is_null());
  out.clear();
  format.AppendUsageChunk({3, 4, 1}, out);
  EXPECT_EQ(Chunks(out)[0]["choices"], json::array());
  EXPECT_EQ(Chunks(out)[0]["usage"]["total_tokens"], 7);
}

TEST(ChatFormat, ToolCallsWhole) {
  ChatFormat format(ChatHead(), {.tool_calls = ToolCallParser::kHermes}, false, kTokenizer);
  const std::string text = "<tool_call>{\"name\":\"f\",\"arguments\":{\"a\": \"é\"}}</tool_call>";
  const json answer = json::parse(format.Whole({{0, text, nullptr, &kStop}}, {1, 2, 0}));
  EXPECT_EQ(answer["object"], "chat.completion");
  const json& choice = answer["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
  EXPECT_TRUE(choice["message"]["content"].is_null());
  EXPECT_EQ(choice["message"]["tool_calls"], json::parse(R"([{"id":"call_7_0_0","type":"function",
      "function":{"name":"f","arguments":"{\"a\": \"é\"}"}}])"));
}

TEST(ChatFormat, ToolCallsStreamed) {
  ChatFormat format(ChatHead(), {.tool_calls = ToolCallParser::kLlama3Json}, false, kTokenizer);
  std::string out;
  format.AppendChunk({0, "{\"name\":\"f\",\"para", nullptr, nullptr}, nullptr, out);
  format.AppendChunk({0, "meters\":{}}", nullptr, &kStop}, nullptr, out);
  const auto chunks = Chunks(out);
  EXPECT_EQ(DeltaOf(chunks[2])["tool_calls"], json::parse(R"([{"index":0,"id":"call_7_0_0",
      "type":"function","function":{"name":"f","arguments":"{}"}}])"));
  EXPECT_EQ(chunks.back()["choices"][0]["finish_reason"], "tool_calls");
}

TEST(ChatFormat, ReasoningIsAFieldOfItsOwn) {
  const AnswerReading reading{.reasoning = ReasoningParser::kQwen3};
  ChatFormat format(ChatHead(), reading, false, kTokenizer);
  const json answer =
      json::parse(format.Whole({{0, "<think>why</think>\nso", nullptr, &kStop}}, {1, 2, 0}));
  EXPECT_EQ(answer["choices"][0]["message"],
            json::parse(R"({"role":"assistant","content":"so","reasoning_content":"why"})"));
  std::string out;
  format.AppendChunk({0, "<think>w", nullptr, nullptr}, nullptr, out);
  EXPECT_EQ(DeltaOf(Chunks(out)[1]), json::parse(R"({"reasoning_content":"w"})"));
}

TEST(ChatFormat, LogprobsNameBytesAndTheLikely) {
  ChatFormat format(ChatHead(), {}, false, kTokenizer);
  const auto logprobs = format.NewLogprobs();
  PositionLogprobs position;
  position.chosen = {{'a'}, -0.5f};
  position.top = {{{'a'}, -0.5f}, {{0xC3}, -2.0f}};
  logprobs->Add(position, 0);
  const json answer = json::parse(format.Whole({{0, "a", logprobs.get(), &kStop}}, {1, 1, 0}));
  EXPECT_EQ(answer["choices"][0]["logprobs"], json::parse(R"({"content":[{"token":"a",
      "logprob":-0.5,"bytes":[97],"top_logprobs":[{"token":"a","logprob":-0.5,"bytes":[97]},
      {"token":"bytes:\\xc3","logprob":-2.0,"bytes":[195]}]}]})"));
}

TEST(ChatFormat, ChoicesAreReadApart) {
  ChatFormat format(ChatHead(), {.tool_calls = ToolCallParser::kHermes}, false, kTokenizer);
  std::string out;
  format.AppendChunk({1, "<tool_", nullptr, nullptr}, nullptr, out);
  format.AppendChunk({0, "plain", nullptr, &kStop}, nullptr, out);
  format.AppendChunk({1, "box>", nullptr, &kStop}, nullptr, out);
  std::string texts[2];
  for (const json& chunk : Chunks(out)) {
    const json& choice = chunk["choices"][0];
    texts[choice["index"].get<int>()] += choice["delta"].value("content", "");
  }
  EXPECT_EQ(texts[0], "plain");
  EXPECT_EQ(texts[1], "<tool_box>");
}

}  // namespace
}  // namespace kvs
