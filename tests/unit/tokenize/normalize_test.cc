#include "tokenize/normalize.h"

#include <gtest/gtest.h>

namespace kvs {
namespace {

TEST(Normalize, NothingAskedForNothingDone) { EXPECT_EQ(Normalize({}, "a b"), "a b"); }

TEST(Normalize, RunsInOrder) {
  const std::vector<Normalizer> llama = {PrependNormalizer{"\u2581"},
                                         ReplaceNormalizer{" ", "\u2581"}};
  EXPECT_EQ(Normalize(llama, "a b"), "\u2581a\u2581b");
  EXPECT_EQ(Normalize(llama, ""), "");
  EXPECT_EQ(Normalize({ReplaceNormalizer{"a", "b"}, ReplaceNormalizer{"bb", "c"}}, "ab"), "c");
}

TEST(Normalize, ReplacesFromTheLeftWithoutOverlap) {
  EXPECT_EQ(Normalize({ReplaceNormalizer{"aa", "x"}}, "aaaaa"), "xxa");
  EXPECT_EQ(Normalize({ReplaceNormalizer{"a", ""}}, "banana"), "bnn");
}

TEST(Normalize, Unicode) {
  EXPECT_EQ(Normalize({UnicodeNormalizer{UnicodeForm::kNfc}}, "e\u0301"), "\u00e9");
}

}  // namespace
}  // namespace kvs
