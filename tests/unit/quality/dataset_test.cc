#include "quality/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "unit/model/model_fixture.h"

namespace kvs {
namespace {

using testing::HasSubstr;

Result<std::vector<DatasetRow>> Read(const std::string& content, uint64_t max_rows = 0) {
  const TempDir dir;
  WriteFile(dir / "data", content);
  return ReadDataset(dir / "data", max_rows);
}

TEST(Dataset, ReadsJsonLinesOfTextAndMessages) {
  const auto rows = Read(
      "{\"text\": \"one\", \"length\": 7}\n\n"
      "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"answer\": \"there\"}\r\n"
      "{\"prompt\": \"three\"}");
  ASSERT_TRUE(rows) << rows.error().message();
  ASSERT_EQ(rows->size(), 3u);
  EXPECT_EQ((*rows)[0].text, "one");
  EXPECT_EQ((*rows)[0].length, 7u);
  EXPECT_FALSE((*rows)[0].is_plain_text);
  EXPECT_EQ((*rows)[1].messages, R"([{"role":"user","content":"hi"}])");
  EXPECT_EQ((*rows)[1].answer, "there");
  EXPECT_EQ((*rows)[2].text, "three");
  EXPECT_EQ(Read("{\"text\": \"a\"}\n{\"text\": \"b\"}\n", 1)->size(), 1u);
}

TEST(Dataset, ReadsAListInTheStyleOfShareGpt) {
  const auto rows = Read(R"([{"id": "x", "conversations": [{"from": "human", "value": "a"},
                                                          {"from": "gpt", "value": "b"},
                                                          {"from": "system", "value": "c"}]}])");
  ASSERT_TRUE(rows) << rows.error().message();
  EXPECT_EQ((*rows)[0].messages,
            R"([{"role":"user","content":"a"},{"role":"assistant","content":"b"},)"
            R"({"role":"system","content":"c"}])");
}

TEST(Dataset, TakesAnythingElseAsPlainText) {
  const auto rows = Read("Once upon a time\nthere was a cache.\n");
  ASSERT_TRUE(rows);
  ASSERT_EQ(rows->size(), 1u);
  EXPECT_TRUE((*rows)[0].is_plain_text);
  EXPECT_EQ((*rows)[0].text, "Once upon a time\nthere was a cache.\n");
}

TEST(Dataset, NamesFileAndRowOfWhatItCannotRead) {
  const std::pair<const char*, const char*> cases[] = {
      {"{\"text\": \"a\"}\n{\"text\": ", "data:2: the line is not JSON"},
      {"{\"text\": \"a\"}\n{\"body\": \"b\"}", "data:2: expected \"text\", \"messages\""},
      {"{\"messages\": [{\"role\": \"user\"}]}", "data:1: expected a list of turns"},
      {"{\"messages\": []}", "data:1: expected a list of turns"},
      {"{\"conversations\": \"x\"}", "data:1: expected a list of turns"},
      {"[{\"text\": \"a\"}, 3]", "data: element 1: expected a JSON object"},
      {"[{\"text\": \"a\"}", "data: the file is not a JSON list"},
      {" \n", "data: the file is empty"},
      {"[]", "data: there is no row"},
  };
  for (const auto& [content, message] : cases) {
    const auto rows = Read(content);
    ASSERT_FALSE(rows) << content;
    EXPECT_THAT(rows.error().message(), HasSubstr(message));
    EXPECT_EQ(rows.error().code(), Code::kDataError);
  }
  EXPECT_EQ(ReadDataset("/nonexistent/data", 0).error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace kvs
