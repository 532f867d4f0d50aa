#include "http/prompt_parse.h"

#include <gtest/gtest.h>

#include <string>

#include "fake_tokenizer.h"

namespace kvs {
namespace {

using testing::FakeTokenizer;
using testing::TokensOf;

class ReadPromptsTest : public ::testing::Test {
 protected:
  std::vector<Prompt> Read(const std::string& prompt, const PromptOptions& options) {
    const auto json = ParseJson("{\"prompt\":" + prompt + "}");
    EXPECT_TRUE(json);
    JsonReader reader(*json);
    auto prompts = ReadPrompts(
        reader, {tokenizer_, info_, names_, "", "", {}, [] { return uint64_t{0}; }}, options, 4);
    refusal_ = reader.error() ? reader.error()->message : "";
    return prompts;
  }

  FakeTokenizer tokenizer_{/*adds_bos=*/false};
  EngineInfo info_{.vocab_size = 258, .generation = {}};
  std::vector<std::string> names_ = {"tiny"};
  std::string refusal_;
};

TEST_F(ReadPromptsTest, EmptyTextNeedsABos) {
  EXPECT_TRUE(Read(R"("")", {}).empty());
  EXPECT_NE(refusal_.find("at least one token"), std::string::npos);
}

TEST_F(ReadPromptsTest, OneBadPromptRefusesAll) {
  EXPECT_TRUE(Read(R"(["good",""])", {}).empty());
  EXPECT_TRUE(Read("[[1],[999]]", {}).empty());
  EXPECT_NE(refusal_.find("999"), std::string::npos);
}

TEST_F(ReadPromptsTest, TextIsKeptOnlyWhenWanted) {
  EXPECT_EQ(Read(R"("abc")", {})[0].text, "");
  PromptOptions wanted;
  wanted.want_text = true;
  EXPECT_EQ(Read(R"("abc")", wanted)[0].text, "abc");
  EXPECT_EQ(Read("[97,98]", wanted)[0].text, "ab");
}

TEST_F(ReadPromptsTest, TruncationKeepsTheLastTokens) {
  const auto prompts = Read(R"(["abc","d"])", {.want_text = true, .truncate_tokens = 2});
  EXPECT_EQ(prompts[0].tokens, TokensOf("bc"));
  EXPECT_EQ(prompts[0].text, "bc");
  EXPECT_EQ(prompts[1].tokens, TokensOf("d"));
}

TEST(CheckedMaxTokens, TheSmallerOfContextAndPoolBounds) {
  const EngineInfo info{
      .max_model_len = 100, .vocab_size = 1, .kv_pool_tokens = 50, .generation = {}};
  EXPECT_EQ(CheckedMaxTokens(info, 40, 10), 10u);
  EXPECT_FALSE(CheckedMaxTokens(info, 40, 11));
  EXPECT_EQ(CheckedMaxTokens(info, 40, std::nullopt), 10u);
  EXPECT_EQ(CheckedMaxTokens(info, 10, std::nullopt), 16u);
  EXPECT_EQ(CheckedMaxTokens(info, 50, 0), 0u);
  EXPECT_FALSE(CheckedMaxTokens(info, 50, std::nullopt));
  const auto refused = CheckedMaxTokens(info, 101, 2147483647);
  ASSERT_FALSE(refused);
  EXPECT_EQ(
      refused.error().message,
      "the maximum context length is 100 tokens: the prompt has 101 and 'max_tokens' asks for "
      "2147483647 more");
}

}  // namespace
}  // namespace kvs
