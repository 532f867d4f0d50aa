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
  EXPECT_EQ(found->filename(), "default");
}

TEST(FindModel, WhatIsNotThereIsNamed) {
  const TempDir dir;
  const std::vector<std::pair<std::string, std::string>> cases = {
      {dir.path().string(), "has no config.json"},
      {dir.Write("file", ""), "got the file"},
      {"meta-llama/Llama-3.1-8B-Instruct", "does not download from the Hugging Face Hub"},
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
