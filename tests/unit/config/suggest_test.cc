#include "config/suggest.h"

#include <gtest/gtest.h>

namespace kvs {
namespace {

TEST(Suggest, EditDistanceCountsSingleEdits) {
  EXPECT_EQ(EditDistance("", ""), 0u);
  EXPECT_EQ(EditDistance("", "abc"), 3u);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3u);
  EXPECT_EQ(EditDistance("port", "prot"), 2u);
}

TEST(Suggest, NamesTheClosest) {
  EXPECT_EQ(Suggestion("blok-size", {"seed", "block-size"}), "; did you mean 'block-size'?");
  EXPECT_EQ(Suggestion("prot", {"host", "port"}), "; did you mean 'port'?");
}

TEST(Suggest, IsSilentWhenNothingIsClose) {
  EXPECT_EQ(Suggestion("zzzzzz", {"host", "port"}), "");
  EXPECT_EQ(Suggestion(std::string(100000, 'p'), {"port"}), "");
}

}  // namespace
}  // namespace kvs
