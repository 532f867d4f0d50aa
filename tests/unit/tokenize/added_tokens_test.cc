#include "tokenize/added_tokens.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace kvs {
namespace {

AddedToken Token(uint32_t id, const char* content) {
  AddedToken token;
  token.id = TokenId{id};
  token.content = content;
  return token;
}

// The segments as text; tokens in brackets with their id.
std::string Show(const AddedTokens& tokens, std::string_view text, bool parse_special = true) {
  std::vector<Segment> segments;
  tokens.Split(text, parse_special, segments);
  std::string shown;
  size_t end = 0;
  for (const Segment& segment : segments) {
    EXPECT_EQ(segment.range.begin, end);
    EXPECT_LT(segment.range.begin, segment.range.end);
    end = segment.range.end;
    const std::string part(text.substr(segment.range.begin, end - segment.range.begin));
    shown += segment.token ? fmt::format("[{}:{}]", segment.token->value, part)
                           : fmt::format("({})", part);
  }
  EXPECT_EQ(end, text.size());
  return shown;
}

TEST(AddedTokens, LeftmostLongest) {
  const AddedTokens tokens({Token(1, "ab"), Token(2, "abcd"), Token(3, "bc"), Token(4, "c")});
  EXPECT_EQ(Show(tokens, "xabcy"), "(x)[1:ab][4:c](y)");
  EXPECT_EQ(Show(tokens, "abcd"), "[2:abcd]");
  EXPECT_EQ(Show(tokens, "bcabab"), "[3:bc][1:ab][1:ab]");
  EXPECT_EQ(Show(tokens, "a"), "(a)");
  EXPECT_EQ(Show(tokens, ""), "");
  EXPECT_EQ(Show(AddedTokens({}), "ab"), "(ab)");
}

TEST(AddedTokens, SpecialTokensCanBeText) {
  AddedToken special = Token(1, "<s>");
  special.special = true;
  const AddedTokens tokens({special, Token(2, "<t>")});
  EXPECT_EQ(Show(tokens, "<s><t>"), "[1:<s>][2:<t>]");
  EXPECT_EQ(Show(tokens, "<s><t>", false), "(<s>)[2:<t>]");
}

TEST(AddedTokens, StripTakesWhiteSpaceAlong) {
  AddedToken left = Token(1, "<l>");
  left.lstrip = true;
  AddedToken right = Token(2, "<r>");
  right.rstrip = true;
  const AddedTokens tokens({left, right});
  EXPECT_EQ(Show(tokens, "a \t<l> b"), "(a)[1: \t<l>]( b)");
  EXPECT_EQ(Show(tokens, "a <r>\n\u3000b"), "(a )[2:<r>\n\u3000](b)");
  EXPECT_EQ(Show(tokens, "<r>  <l>"), "[2:<r>  ][1:<l>]");
}

TEST(AddedTokens, SingleWordStandsAlone) {
  AddedToken word = Token(1, "cat");
  word.single_word = true;
  const AddedTokens tokens({word});
  EXPECT_EQ(Show(tokens, "cat concat cats -cat. \u00e9cat cat"),
            "[1:cat]( concat cats -)[1:cat](. \u00e9cat )[1:cat]");
}

TEST(AddedTokens, ATokenWhoseBeginningIsTakenIsText) {
  AddedToken right = Token(1, "<r>");
  right.rstrip = true;
  const AddedTokens tokens({right, Token(2, "  x")});
  EXPECT_EQ(Show(tokens, "<r>  x"), "[1:<r>  ](x)");
}

}  // namespace
}  // namespace kvs
