#include "stream/text_assembler.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "fake_tokenizer.h"

namespace kvs {
namespace {

struct Outcome {
  std::string text;
  std::optional<size_t> matched;
};

Outcome Assemble(const std::string& bytes, TextOptions options) {
  const FakeTokenizer tokenizer = ByteTokenizer();
  TextAssembler assembler(tokenizer, std::move(options));
  Outcome outcome;
  for (const char c : bytes) {
    assembler.Append(TokenId{static_cast<unsigned char>(c)}, outcome.text);
  }
  const bool stopped = assembler.Finish(outcome.text);
  outcome.matched = assembler.matched_stop();
  EXPECT_EQ(stopped, outcome.matched.has_value());
  return outcome;
}

TextOptions Stop(std::vector<std::string> strings, bool include = false, uint32_t min_tokens = 0) {
  return {true, std::move(strings), include, min_tokens};
}

TEST(TextAssembler, WithoutStopStringsAllTextPasses) {
  const Outcome outcome = Assemble("a\u4e2d\xF0\x9F", {});
  EXPECT_EQ(outcome.text, "a\u4e2d\uFFFD");
  EXPECT_EQ(outcome.matched, std::nullopt);
}

TEST(TextAssembler, StopsInFrontOfTheString) {
  EXPECT_EQ(Assemble("one END two", Stop({"two", "END"})).text, "one ");
  EXPECT_EQ(Assemble("one END two", Stop({"two", "END"})).matched, 1u);
  EXPECT_EQ(Assemble("one END two", Stop({"END"}, true)).text, "one END");
  EXPECT_EQ(Assemble("one EN", Stop({"END"})).text, "one EN");  // held back, and let go at the end
  EXPECT_EQ(Assemble("\u4e2d\u6587", Stop({"\u6587"})).text, "\u4e2d");
}

TEST(TextAssembler, MatchesWhatTheEndOfTheTextCompletes) {
  const Outcome outcome = Assemble("a\xE4", Stop({"\uFFFD"}));
  EXPECT_EQ(outcome.text, "a");
  EXPECT_EQ(outcome.matched, 0u);
}

TEST(TextAssembler, MinTokensDelaysStopStrings) {
  EXPECT_EQ(Assemble("aXbXc", Stop({"X"}, false, 2)).text, "aXb");
  EXPECT_EQ(Assemble("aXYb", Stop({"XY"}, false, 2)).text, "a");  // ends in the third token
  EXPECT_EQ(Assemble("aXYb", Stop({"XY"}, false, 3)).text, "aXYb");
}

TEST(TextAssembler, TextOffsetsCountCharacters) {
  const FakeTokenizer tokenizer({"ab", "\u4e2d", "\xF0\x9F", "\x98\x80", "c", "<s>"}, 5);
  TextAssembler assembler(tokenizer, Stop({"c!"}));
  std::vector<uint64_t> offsets;
  std::string text;
  for (const uint32_t id : {0u, 1u, 5u, 2u, 3u, 4u, 0u}) {
    offsets.push_back(assembler.text_offset());
    assembler.Append(TokenId{id}, text);
  }
  EXPECT_EQ(offsets, (std::vector<uint64_t>{0, 2, 3, 3, 3, 4, 5}));
  EXPECT_EQ(text, "ab\u4e2d\U0001F600cab");
}

TEST(TextAssembler, TokensAfterAMatchAreIgnored) {
  const FakeTokenizer tokenizer({"aXb", "c"});
  TextAssembler assembler(tokenizer, Stop({"X"}));
  std::string text;
  EXPECT_TRUE(assembler.Append(TokenId{0}, text));
  EXPECT_TRUE(assembler.Append(TokenId{1}, text));
  EXPECT_TRUE(assembler.Finish(text));
  EXPECT_EQ(text, "a");
}

TEST(TextAssembler, CostPerTokenIsSmall) {
  const FakeTokenizer tokenizer({" the", " quick", "\xF0\x9F", "\x98\x80", "\n", "s", "to", "."});
  TextAssembler assembler(tokenizer, Stop({"stop", "\n\n\n", "###", "User:"}));
  constexpr uint32_t kNumTokens = 200'000;
  std::string text;
  const auto begin = std::chrono::steady_clock::now();
  for (uint32_t i = 0; i < kNumTokens; ++i) {
    text.clear();
    ASSERT_FALSE(assembler.Append(TokenId{i % 8}, text));
  }
  const std::chrono::duration<double, std::nano> elapsed = std::chrono::steady_clock::now() - begin;
  RecordProperty("ns_per_token", static_cast<int>(elapsed.count() / kNumTokens));
  EXPECT_LT(elapsed.count() / kNumTokens, 5000.0);  // the whole budget; far less without sanitizers
}

}  // namespace
}  // namespace kvs
