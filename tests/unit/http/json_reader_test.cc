#include "http/json_reader.h"

#include <gtest/gtest.h>

#include <string>

namespace kvs {
namespace {

Json Parsed(const std::string& text) {
  auto json = ParseJson(text);
  EXPECT_TRUE(json) << json.error().message;
  return json ? *json : Json();
}

TEST(ParseJson, TakesWhatIsJson) {
  EXPECT_EQ(Parsed(R"({"a":[1,-2,2.5,"x\u00e9\ud83d\ude00",true,null,{}]})").dump(),
            "{\"a\":[1,-2,2.5,\"x\u00e9\U0001F600\",true,null,{}]}");
  EXPECT_EQ(Parsed(R"("a\u0000b")").get<std::string>(), std::string("a\0b", 3));
}

TEST(ParseJson, BoundsDepth) {
  const std::string open(kMaxJsonDepth, '[');
  const std::string close(kMaxJsonDepth, ']');
  EXPECT_TRUE(ParseJson(open + close));
  EXPECT_FALSE(ParseJson("[" + open + close + "]"));
}

TEST(ParseJson, SameKeyInDifferentObjectsIsNoDuplicate) {
  EXPECT_TRUE(ParseJson(R"([{"a":1},{"a":{"a":2}}])"));
  EXPECT_FALSE(ParseJson(R"([{"a":1,"b":2,"a":3}])"));
}

TEST(IntegerOf, TakesWholeNumbersOnly) {
  EXPECT_EQ(IntegerOf(Parsed("7")), 7);
  EXPECT_EQ(IntegerOf(Parsed("-0")), 0);
  EXPECT_EQ(IntegerOf(Parsed("1.0")), 1);
  EXPECT_EQ(IntegerOf(Parsed("1e3")), 1000);
  EXPECT_EQ(IntegerOf(Parsed("9223372036854775807")), INT64_MAX);
  EXPECT_EQ(IntegerOf(Parsed("-9223372036854775808")), INT64_MIN);
  for (const char* text : {"1.5", "9223372036854775808", "1e300", "true", "\"1\"", "null", "[1]"}) {
    EXPECT_FALSE(IntegerOf(Parsed(text))) << text;
  }
}

TEST(Shown, IsShortAndOneLine) {
  EXPECT_EQ(Shown(Json("a\nb")), R"("a\nb")");
  EXPECT_EQ(Shown(Json(std::string(1000, 'x'))).size(), 64u + 3);
  EXPECT_EQ(Shown(Json::array({1, 2})), "an array of 2");
}

TEST(JsonReader, KeepsTheFirstRefusalAndReadsNoMore) {
  const Json object = Parsed(R"({"a":5,"b":"x","c":true})");
  JsonReader reader(object, "outer.");
  int64_t a = 0;
  reader.Integer("a", 0, 3, a);
  bool c = false;
  reader.Bool("c", c);
  float b = 0;
  reader.Number("b", 0, 1, b);
  EXPECT_EQ(a, 0);
  EXPECT_FALSE(c);
  ASSERT_TRUE(reader.error());
  EXPECT_EQ(reader.error()->message, "'outer.a' must be an integer from 0 to 3, got 5");
  EXPECT_EQ(reader.error()->param, "outer.a");
}

TEST(JsonReader, NullIsAbsent) {
  const Json object = Parsed(R"({"a":null})");
  JsonReader reader(object);
  int64_t a = 9;
  reader.Integer("a", 0, 3, a);
  EXPECT_EQ(a, 9);
  EXPECT_EQ(reader.Find("a"), nullptr);
  EXPECT_FALSE(reader.error());
}

}  // namespace
}  // namespace kvs
