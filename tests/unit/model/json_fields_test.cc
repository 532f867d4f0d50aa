#include "model/json_fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace kvs {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(JsonFieldsTest, KeepsTheFirstMistake) {
  const Json object = Json::parse(R"({"a": -1, "b": "x", "c": 5})");
  JsonFields fields(object, "file");
  EXPECT_EQ(fields.Uint("c", 1, 9), 5u);
  EXPECT_FALSE(fields.error());
  EXPECT_EQ(fields.Uint("a", 1, 9), 1u);
  EXPECT_EQ(fields.Number("b", 0.5, 2.0), 0.5);
  ASSERT_TRUE(fields.error());
  EXPECT_EQ(fields.error()->message(), "file: a is -1; an integer from 1 to 9 is supported");
}

TEST(JsonFieldsTest, NullIsMissingButCanBeToldApart) {
  const Json object = Json::parse(R"({"null": null})");
  JsonFields fields(object, "file");
  EXPECT_FALSE(fields.Has("null"));
  EXPECT_TRUE(fields.IsNull("null"));
  EXPECT_FALSE(fields.IsNull("missing"));
  EXPECT_EQ(fields.Uint("null", 1, 9, 3), 3u);
  EXPECT_THAT(fields.Uints("null", 9), IsEmpty());
  EXPECT_FALSE(fields.error());
}

TEST(JsonFieldsTest, ReadsListsOfIntegersBelowABound) {
  const Json object = Json::parse(R"({"good": [0, 8], "large": [9], "text": ["1"], "one": 1})");
  JsonFields fields(object, "file");
  EXPECT_THAT(fields.Uints("good", 9), ElementsAre(0, 8));
  EXPECT_FALSE(fields.error());
  for (const char* key : {"large", "text", "one"}) {
    JsonFields bad(object, "file");
    EXPECT_THAT(bad.Uints(key, 9), IsEmpty());
    ASSERT_TRUE(bad.error()) << key;
    EXPECT_THAT(bad.error()->message(), HasSubstr("a list of integers below 9"));
  }
}

TEST(JsonFieldsTest, NamesWhatNobodyAskedFor) {
  const Json object = Json::parse(R"({"d": 1, "a": 1, "c": 1, "b": null})");
  JsonFields fields(object, "file");
  fields.Uint("a", 0, 9);
  fields.IsNull("b");
  EXPECT_THAT(fields.UnaskedKeys(), ElementsAre("c", "d"));
}

}  // namespace
}  // namespace kvs
