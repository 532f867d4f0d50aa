#include "model/json_file.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "unit/model/model_fixture.h"

namespace kvs {
namespace {

using ::testing::HasSubstr;

TEST(JsonFileTest, ReadsAnObject) {
  const TempDir dir;
  WriteFile(dir / "a.json", R"({"a": [1, -2, 3.5, "x", true, null, {"a": {}}], "b": "\u00e9"})");
  const auto json = ReadJsonObject(dir / "a.json", JsonLimits{});
  ASSERT_TRUE(json) << json.error().message();
  EXPECT_EQ((*json)["a"].size(), 7u);
  EXPECT_EQ((*json)["b"], "\xc3\xa9");
}

TEST(JsonFileTest, HoldsEachLimitExactly) {
  const JsonLimits limits = {.max_bytes = 40, .max_depth = 3, .max_values = 5};
  const struct {
    const char* text;
    const char* error;  // null when it is within the limits
  } cases[] = {
      {R"({"a":[[1]]})", nullptr},
      {R"({"a":[[[]]]})", "name: nested deeper than 3"},
      {R"({"a":[1,2,3]})", nullptr},
      {R"({"a":[1,2,3,4]})", "name: more than 5 values"},
      {R"({"a":"01234567890123456789012345678901"})", nullptr},
      {R"({"a":"012345678901234567890123456789012"})", "name: 41 bytes of JSON; at most 40"},
      {R"({"a":1,"b":{"a":1}})", nullptr},
      {R"({"a":1,"b":1,"a":1})", "name: 'a' occurs twice"},
  };
  for (const auto& test : cases) {
    const auto json = ParseJsonObject(test.text, limits, "name");
    ASSERT_EQ(json.has_value(), test.error == nullptr) << test.text;
    if (json) continue;
    EXPECT_EQ(json.error().code(), Code::kDataError);
    EXPECT_THAT(json.error().message(), HasSubstr(test.error));
  }
}

TEST(JsonFileTest, ManyKeysTakeLittleTime) {
  std::string text = "{";
  for (int i = 0; i < 100'000; ++i) text += fmt::format("\"{}\":{{}},", i);
  text.back() = '}';
  const auto json = ParseJsonObject(text, JsonLimits{}, "name");  // quadratic would take minutes
  ASSERT_TRUE(json) << json.error().message();
  EXPECT_EQ(json->size(), 100'000u);
}

}  // namespace
}  // namespace kvs
