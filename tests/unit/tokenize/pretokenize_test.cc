#include "tokenize/pretokenize.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace kvs {
namespace {

using Strings = std::vector<std::string>;

Strings Split(const std::vector<PreTokenizer>& specs, std::string_view text, bool at_start = true) {
  const Result<PreTokenizers> pre_tokenizers = PreTokenizers::Make(specs);
  EXPECT_TRUE(pre_tokenizers.has_value());
  Pieces pieces;
  pieces.Reset(text, at_start);
  EXPECT_TRUE(pre_tokenizers->Run(pieces).has_value());
  Strings out;
  for (const ByteRange& range : pieces.ranges) {
    EXPECT_LT(range.begin, range.end);
    out.push_back(pieces.text.substr(range.begin, range.end - range.begin));
  }
  return out;
}

TEST(PreTokenizers, WithoutStepsTheTextIsOnePiece) {
  EXPECT_EQ(Split({}, "a b"), (Strings{"a b"}));
  EXPECT_EQ(Split({}, ""), Strings{});
}

TEST(PreTokenizers, SplitBehaviors) {
  const std::string text = "the-final--countdown";
  const auto split = [&](SplitBehavior behavior, bool invert = false) {
    return Split({SplitPreTokenizer{"-", behavior, invert}}, text);
  };
  EXPECT_EQ(split(SplitBehavior::kRemoved), (Strings{"the", "final", "countdown"}));
  EXPECT_EQ(split(SplitBehavior::kIsolated), (Strings{"the", "-", "final", "-", "-", "countdown"}));
  EXPECT_EQ(split(SplitBehavior::kMergedWithPrevious),
            (Strings{"the-", "final-", "-", "countdown"}));
  EXPECT_EQ(split(SplitBehavior::kMergedWithNext), (Strings{"the", "-final", "-", "-countdown"}));
  EXPECT_EQ(split(SplitBehavior::kContiguous), (Strings{"the", "-", "final", "--", "countdown"}));
  EXPECT_EQ(split(SplitBehavior::kRemoved, true), (Strings{"-", "-", "-"}));
}

TEST(PreTokenizers, ByteLevelSplitsAsGpt2) {
  const std::vector<PreTokenizer> specs = {ByteLevelPreTokenizer{false, true}};
  EXPECT_EQ(Split(specs, "Hello  world's 42nd!?\n"),
            (Strings{"Hello", " ", " world", "'s", " 42", "nd", "!?", "\n"}));
}

TEST(PreTokenizers, PrefixSpace) {
  const std::vector<PreTokenizer> specs = {ByteLevelPreTokenizer{true, false}};
  EXPECT_EQ(Split(specs, "a b"), (Strings{" a b"}));
  EXPECT_EQ(Split(specs, " a"), (Strings{" a"}));
  EXPECT_EQ(Split(specs, "\ta"), (Strings{" \ta"}));
}

TEST(PreTokenizers, StepsRunOnThePiecesOfTheOneBefore) {
  EXPECT_EQ(Split({SplitPreTokenizer{"\\p{N}", SplitBehavior::kIsolated, false},
                   ByteLevelPreTokenizer{false, true}},
                  "a 12"),
            (Strings{"a", " ", "1", "2"}));
}

TEST(PreTokenizers, Metaspace) {
  const auto run = [](PrependScheme scheme, bool split, std::string_view text, bool at_start) {
    return Split({MetaspacePreTokenizer{"\u2581", scheme, split}}, text, at_start);
  };
  EXPECT_EQ(run(PrependScheme::kAlways, true, "a  b", false),
            (Strings{"\u2581a", "\u2581", "\u2581b"}));
  EXPECT_EQ(run(PrependScheme::kFirst, true, "a", false), (Strings{"a"}));
  EXPECT_EQ(run(PrependScheme::kFirst, true, "a", true), (Strings{"\u2581a"}));
  EXPECT_EQ(run(PrependScheme::kNever, false, "a b\u2581c", true), (Strings{"a\u2581b\u2581c"}));
  EXPECT_EQ(run(PrependScheme::kAlways, false, " a", true), (Strings{"\u2581a"}));
}

TEST(PreTokenizers, RefusesABadRegex) {
  const auto made = PreTokenizers::Make({SplitPreTokenizer{"(", SplitBehavior::kIsolated, false}});
  ASSERT_FALSE(made.has_value());
  EXPECT_EQ(made.error().code(), Code::kDataError);
}

}  // namespace
}  // namespace kvs
