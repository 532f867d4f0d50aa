#include "config/parse_value.h"

#include <gtest/gtest.h>

namespace kvs {
namespace {

TEST(ParseValue, BytesTakeBinaryUnits) {
  EXPECT_EQ(*ParseBytes("1"), 1u);
  EXPECT_EQ(*ParseBytes("3K"), 3072u);
  EXPECT_EQ(*ParseBytes("3k"), 3072u);
  EXPECT_EQ(*ParseBytes("512M"), 536870912u);
  EXPECT_EQ(*ParseBytes("4GiB"), 4294967296u);
  EXPECT_EQ(*ParseBytes("2T"), uint64_t{2} << 40);
}

TEST(ParseValue, BytesRefuseWhatIsNoSize) {
  for (const char* text :
       {"", "0", "-1", "K", "1.5G", "1 G", "4GB", "4X", "16777216T", "18446744073709551616"}) {
    EXPECT_FALSE(ParseBytes(text)) << text;
  }
}

TEST(ParseValue, WholeNumbersAreBounded) {
  EXPECT_EQ(*ParseWhole("0", 0, 9), 0u);
  EXPECT_EQ(*ParseWhole("18446744073709551615", 0, UINT64_MAX), UINT64_MAX);
  for (const char* text : {"", "10", "-1", "+1", "1.0", "0x1", "1 ", " 1", "one"}) {
    const auto parsed = ParseWhole(text, 0, 9);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().message(),
              std::string("expected a whole number from 0 to 9, got '") + text + "'");
  }
}

TEST(ParseValue, RealsAreFiniteAndBounded) {
  EXPECT_DOUBLE_EQ(*ParseReal("0.5", 0.0, 1.0), 0.5);
  for (const char* text : {"", "nan", "inf", "1.1", "-0.1", "0.5x", "1e400"}) {
    EXPECT_FALSE(ParseReal(text, 0.0, 1.0)) << text;
  }
}

TEST(ParseValue, BoolsAreFourWords) {
  EXPECT_TRUE(*ParseBool("true"));
  EXPECT_TRUE(*ParseBool("1"));
  EXPECT_FALSE(*ParseBool("false"));
  EXPECT_FALSE(*ParseBool("0"));
  for (const char* text : {"", "yes", "True", "2"}) EXPECT_FALSE(ParseBool(text)) << text;
}

TEST(ParseValue, ChoicesAreListedWhenRefused) {
  const auto parsed = ParseChoice<int>("c", {{"a", 1}, {"b", 2}});
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().message(), "expected one of a, b, got 'c'");
  EXPECT_EQ(*ParseChoice<int>("b", {{"a", 1}, {"b", 2}}), 2);
}

}  // namespace
}  // namespace kvs
