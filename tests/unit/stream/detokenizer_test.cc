#include "stream/detokenizer.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "fake_tokenizer.h"

namespace kvs {
namespace {

std::string DetokenizeAll(const Tokenizer& tokenizer, const std::vector<TokenId>& tokens,
                          bool skip_special) {
  Detokenizer detokenizer(tokenizer, skip_special);
  std::string text;
  for (const TokenId token : tokens) {
    detokenizer.Append(token, text);
    EXPECT_EQ(FindInvalidUtf8(text), std::nullopt);
  }
  detokenizer.Flush(text);
  return text;
}

// Every way to cut a text of 1 to 4 byte characters into tokens.
TEST(Detokenizer, EveryCutGivesTheSameText) {
  const std::string text = "a\u00e9\u4e2d\U0001F600b";
  for (uint32_t cuts = 0; cuts < 1u << (text.size() - 1); ++cuts) {
    std::vector<std::string> bytes(1);
    std::vector<TokenId> tokens = {TokenId{0}};
    for (size_t i = 0; i < text.size(); ++i) {
      bytes.back() += text[i];
      if (i + 1 < text.size() && (cuts >> i & 1)) {
        tokens.push_back(TokenId{static_cast<uint32_t>(bytes.size())});
        bytes.emplace_back();
      }
    }
    const FakeTokenizer tokenizer(bytes);
    ASSERT_EQ(DetokenizeAll(tokenizer, tokens, false), text);
  }
}

TEST(Detokenizer, NeverShowsHalfACharacter) {
  const FakeTokenizer tokenizer({"\xF0\x9F", "\x98", "\x80", "x"});
  Detokenizer detokenizer(tokenizer, true);
  std::string text;
  detokenizer.Append(TokenId{0}, text);
  detokenizer.Append(TokenId{1}, text);
  EXPECT_EQ(text, "");
  EXPECT_EQ(detokenizer.num_chars(), 0u);
  detokenizer.Append(TokenId{2}, text);
  EXPECT_EQ(text, "\U0001F600");
  EXPECT_EQ(detokenizer.num_chars(), 1u);
  detokenizer.Append(TokenId{0}, text);
  detokenizer.Append(TokenId{3}, text);  // the character cannot be completed any more
  EXPECT_EQ(text, "\U0001F600\uFFFDx");
  detokenizer.Append(TokenId{0}, text);
  detokenizer.Flush(text);
  EXPECT_EQ(text, "\U0001F600\uFFFDx\uFFFD");
  EXPECT_EQ(detokenizer.num_chars(), 4u);
}

TEST(Detokenizer, SkipsSpecialTokensEvenInsideACharacter) {
  const FakeTokenizer tokenizer({"\xC3", "\xA9", "<s>"}, 2);
  const std::vector<TokenId> tokens = {TokenId{2}, TokenId{0}, TokenId{2}, TokenId{1}};
  EXPECT_EQ(DetokenizeAll(tokenizer, tokens, true), "\u00e9");
  EXPECT_EQ(DetokenizeAll(tokenizer, tokens, false), "<s>\uFFFD<s>\uFFFD");
}

TEST(Detokenizer, EqualsDecodingTheWhole) {
  std::mt19937 random(1);
  const FakeTokenizer tokenizer = ByteTokenizer();
  const std::string likely = "ab\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80\xED\xA0\xFF";
  for (int round = 0; round < 5000; ++round) {
    std::vector<TokenId> tokens;
    for (size_t i = random() % 20; i > 0; --i) {
      const uint32_t byte = random() % 5 == 0
                                ? random() % 256
                                : static_cast<unsigned char>(likely[random() % likely.size()]);
      tokens.push_back(TokenId{byte});
    }
    ASSERT_EQ(DetokenizeAll(tokenizer, tokens, false), tokenizer.Decode(tokens, false));
  }
}

}  // namespace
}  // namespace kvs
