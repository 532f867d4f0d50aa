#include "stream/stop_strings.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

namespace kvs {
namespace {

// The match that ends first, of those the longest, by looking everywhere.
std::optional<StopStrings::Match> NaiveFind(const std::string& text,
                                            const std::vector<std::string>& strings) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::optional<StopStrings::Match> best;
    for (size_t i = 0; i < strings.size(); ++i) {
      const size_t length = strings[i].size();
      if (length > end || text.compare(end - length, length, strings[i]) != 0) continue;
      if (!best || end - length < best->begin) best = {i, end - length, end};
    }
    if (best) return best;
  }
  return std::nullopt;
}

// The longest suffix of `text` that is a proper prefix of a string.
size_t NaiveHeld(const std::string& text, const std::vector<std::string>& strings) {
  size_t held = 0;
  for (const std::string& string : strings) {
    for (size_t n = 1; n < string.size() && n <= text.size(); ++n) {
      if (text.compare(text.size() - n, n, string, 0, n) == 0) held = std::max(held, n);
    }
  }
  return held;
}

void ExpectLikeNaive(const std::string& text, const std::vector<std::string>& strings,
                     const std::vector<size_t>& cuts) {
  StopStrings stop(strings);
  const auto expected = NaiveFind(text, strings);
  std::string out;
  size_t fed = 0;
  for (const size_t cut : cuts) {
    const std::string piece = text.substr(fed, cut - fed);
    fed = cut;
    const auto match = stop.Append(piece, true, out);
    if (expected && expected->end <= fed) {
      ASSERT_TRUE(match.has_value());
      EXPECT_EQ(match->begin, expected->begin);
      EXPECT_EQ(match->end, expected->end);
      EXPECT_EQ(strings[match->index], strings[expected->index]);
      EXPECT_EQ(out, text.substr(0, expected->begin));
      return;
    }
    ASSERT_FALSE(match.has_value());
    ASSERT_EQ(out, text.substr(0, fed - NaiveHeld(text.substr(0, fed), strings)));
  }
  stop.Flush(out);
  EXPECT_EQ(out, text);
}

TEST(StopStrings, EverySingleCut) {
  const std::vector<std::vector<std::string>> sets = {
      {"stop"}, {"\n\n"}, {"ab", "abc", "bc"}, {"abab", "ba"}, {"\u4e2d\u6587", "\u4e2d"}};
  const std::vector<std::string> texts = {"we stop here",       "a\n\nb",   "xabcy", "aababab", "x",
                                          "\u4e2d\u4e2d\u6587", "sstostop", ""};
  for (const auto& strings : sets) {
    for (const std::string& text : texts) {
      for (size_t first = 0; first <= text.size(); ++first) {
        for (size_t second = first; second <= text.size(); ++second) {
          ExpectLikeNaive(text, strings, {first, second, text.size()});
        }
      }
    }
  }
}

TEST(StopStrings, RandomStringsTextsAndCuts) {
  std::mt19937 random(1);
  const auto make = [&](size_t min, size_t max, uint32_t letters) {
    std::string text;
    for (size_t n = min + random() % (max - min + 1); n > 0; --n)
      text += "abcd"[random() % letters];
    return text;
  };
  for (int round = 0; round < 20000; ++round) {
    const uint32_t letters = 1 + random() % 3;
    std::vector<std::string> strings;
    for (size_t n = 1 + random() % 5; n > 0; --n) strings.push_back(make(1, 7, letters));
    const std::string text = make(0, 40, letters + 1);
    std::vector<size_t> cuts;
    for (size_t at = 0; at < text.size();) {
      at = std::min(text.size(), at + 1 + random() % 6);
      cuts.push_back(at);
    }
    ExpectLikeNaive(text, strings, cuts);
  }
}

TEST(StopStrings, AMatchMayBeForbidden) {
  const std::vector<std::string> strings = {"ab", "bcd"};
  StopStrings stop(strings);
  std::string out;
  EXPECT_FALSE(stop.Append("xab", false, out));
  EXPECT_EQ(out, "xa");  // "b" may still begin "bcd"
  EXPECT_FALSE(stop.Append("c", false, out));
  const auto match = stop.Append("d", true, out);
  ASSERT_TRUE(match.has_value());
  EXPECT_EQ(match->index, 1u);
  EXPECT_EQ(out, "xa");
}

TEST(StopStrings, WithoutStringsNothingIsHeld) {
  StopStrings stop({});
  EXPECT_TRUE(stop.empty());
  std::string out;
  EXPECT_FALSE(stop.Append("abc", true, out));
  EXPECT_EQ(out, "abc");
}

TEST(StopStrings, OfEqualStringsTheFirst) {
  const std::vector<std::string> strings = {"x", "a", "a"};
  StopStrings stop(strings);
  std::string out;
  EXPECT_EQ(stop.Append("a", true, out)->index, 1u);
}

}  // namespace
}  // namespace kvs
