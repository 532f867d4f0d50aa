// A chat template out of its text, as a model's directory would give it.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "template/chat_template.h"

namespace kvs::testing {

inline std::shared_ptr<const ChatTemplate> ChatTemplateOf(const std::string& source) {
  const auto folder = std::filesystem::temp_directory_path();
  const auto file = folder / ("kvs_chat_" + std::to_string(getpid()) + ".jinja");
  std::ofstream(file) << source;
  auto loaded = ChatTemplate::Load(folder, file.string());
  EXPECT_TRUE(loaded);
  std::filesystem::remove(file);
  return *std::move(loaded);
}

}  // namespace kvs::testing
