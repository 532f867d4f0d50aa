#include "tokenize/regex.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace kvs {
namespace {

std::vector<std::string> Matches(std::string_view pattern, std::string_view text) {
  const Result<Regex> regex = Regex::Compile(pattern);
  EXPECT_TRUE(regex.has_value()) << regex.error().message();
  std::vector<ByteRange> ranges;
  EXPECT_TRUE(regex->FindAll(text, {0, text.size()}, ranges).has_value());
  std::vector<std::string> matches;
  for (const ByteRange& range : ranges) {
    matches.emplace_back(text.substr(range.begin, range.end - range.begin));
  }
  return matches;
}

using Strings = std::vector<std::string>;

TEST(Regex, TranslatesWhatTheLibrariesReadDifferently) {
  const struct {
    const char* pattern;
    const char* translated;
  } cases[] = {
      {R"(\s+(?!\S)|[^\s\p{L}])", R"(\p{White_Space}+(?!\P{White_Space})|[^\p{White_Space}\p{L}])"},
      {R"(\\s)", R"(\\s)"},
      {R"(\w[\w-])", R"([\p{L}\p{M}\p{Nd}\p{Pc}][\p{L}\p{M}\p{Nd}\p{Pc}-])"},
      {R"(\W)", R"([^\p{L}\p{M}\p{Nd}\p{Pc}])"},
      {R"(\u4e00\v)", R"(\x{4e00}\x0B)"},
      {R"((?i:'s)\p{N}{1,3}\p{L}++)", R"((?i:'s)\p{N}{1,3}\p{L}++)"},
      {R"([^\r\n\[\]\\]a{2})", R"([^\r\n\[\]\\]a{2})"},
  };
  for (const auto& c : cases) {
    const Result<std::string> translated = internal::TranslateRegex(c.pattern);
    ASSERT_TRUE(translated.has_value()) << translated.error().message();
    EXPECT_EQ(*translated, c.translated);
  }
}

TEST(Regex, RefusesWhatCannotBeTranslated) {
  for (const char* pattern :
       {R"(\h)",   R"(\R)",  R"(\Qa\E)",   R"(\b)",  R"(\1)",           "[a&&b]", "[[a]]",
        R"([\W])", "(?m:a)", "(?<name>a)", "(?#c)",  "a{1,3}+",         "\\",     R"(\p)",
        R"(\u4)",  "(",      "[a",         "a{2,1}", R"(\p{Nonsense})", "[]a]"}) {
    const Result<Regex> regex = Regex::Compile(pattern);
    ASSERT_FALSE(regex.has_value()) << pattern;
    EXPECT_EQ(regex.error().code(), Code::kDataError);
    EXPECT_NE(regex.error().message().find(pattern), std::string::npos);
  }
}

TEST(Regex, FindsAllFromTheLeft) {
  EXPECT_EQ(Matches("a+|b", "aab ca"), (Strings{"aa", "b", "a"}));
  EXPECT_EQ(Matches("x", ""), Strings{});
  EXPECT_EQ(Matches("x*", "axb"), (Strings{"", "x", ""}));
  EXPECT_EQ(Matches("x*", "\u4e2d"), (Strings{"", ""}));
  EXPECT_EQ(Matches("^b|a$", "a\nb"), (Strings{"a", "b"}));
}

TEST(Regex, MeansUnicode) {
  EXPECT_EQ(Matches("\\s", "\u180e\u00a0\u3000"), (Strings{"\u00a0", "\u3000"}));
  EXPECT_EQ(Matches("\\w+", "e\u0301_1\u00b2"), (Strings{"e\u0301_1"}));
  EXPECT_EQ(Matches("(?i:s)", "\u017f"), (Strings{"\u017f"}));
}

TEST(Regex, SeesNothingOutsideOfTheRange) {
  const Result<Regex> regex = Regex::Compile("\\s+(?!\\S)|(?<=a)b");
  ASSERT_TRUE(regex.has_value());
  std::vector<ByteRange> ranges;
  ASSERT_TRUE(regex->FindAll("  ab", {0, 2}, ranges).has_value());
  ASSERT_EQ(ranges.size(), 1u);
  EXPECT_EQ(ranges[0].end, 2u);
  ranges.clear();
  ASSERT_TRUE(regex->FindAll("  ab", {3, 4}, ranges).has_value());
  EXPECT_TRUE(ranges.empty());
}

TEST(Regex, CatastrophicPatternsEnd) {
  const Result<Regex> regex = Regex::Compile("(?:a+)+[bc]");
  ASSERT_TRUE(regex.has_value());
  std::vector<ByteRange> ranges;
  const std::string text(64, 'a');
  const Result<void> found = regex->FindAll(text, {0, text.size()}, ranges);
  ASSERT_FALSE(found.has_value());
  EXPECT_EQ(found.error().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace kvs
