#include "parse_support.h"

namespace kvs::test {
namespace {

TEST(FindModel, ADirectoryWithAConfigIsTaken) {
  const TempDir dir;
  dir.Write("config.json", "{}");
  const auto found = FindModelDir(dir.path().string());
  ASSERT_TRUE(found);
  EXPECT_EQ(*found, dir.path());
  const auto by_file = FindModelDir((dir.path() / "config.json").string());
  ASSERT_TRUE(by_file);
  EXPECT_EQ(*by_file, dir.path());
}

TEST(FindModel, WithoutANameTheBundledModel) {
  const auto found = FindModelDir("");
  ASSERT_TRUE(found) << found.error().message();
  ASSERT_TRUE(*found);
  EXPECT_EQ((*found)->filename(), "default");
}

TEST(FindModel, ANameOfTheHubIsLeftToTheHub) {
  for (const char* model : {"meta-llama/Llama-3.1-8B-Instruct", "a/b", "o_1/n.2-x"}) {
    const auto found = FindModelDir(model);
    ASSERT_TRUE(found) << model;
    EXPECT_FALSE(*found) << model;
  }
  // None of these could be a folder of the cache or a part of a URL.
  for (const char* model : {"a/b/c", "../b", "a/..", "a--b/c", "a/b c", "/a", "a/", "a/.b", "a/-b",
                            "a/b%2F", "~/b", "a/b\nc"}) {
    EXPECT_FALSE(FindModelDir(model)) << model;
  }
}

TEST(FindModel, WhatIsNotThereIsNamed) {
  const TempDir dir;
  const std::vector<std::pair<std::string, std::string>> cases = {
      {dir.path().string(), "has no config.json"},
      {dir.Write("file", ""), "got the file"},
      {"./meta-llama/absent", "expected a model directory"},
      {"absent", "expected a model directory"}};
  for (const auto& [model, fragment] : cases) {
    const auto found = FindModelDir(model);
    ASSERT_FALSE(found) << model;
    EXPECT_EQ(found.error().code(), Code::kNotFound);
    EXPECT_NE(found.error().message().find(fragment), std::string::npos) << found.error().message();
    EXPECT_NE(found.error().message().find(model), std::string::npos);
  }
}

}  // namespace
}  // namespace kvs::test
