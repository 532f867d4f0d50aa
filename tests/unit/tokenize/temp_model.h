// A model directory that holds the given tokenizer.json and disappears with the object.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace kvs {

class TempModel {
 public:
  explicit TempModel(const std::string& tokenizer_json) {
    static int count = 0;
    dir_ = std::filesystem::temp_directory_path() /
           ("kvs_tokenize_" + std::to_string(getpid()) + "_" + std::to_string(count++));
    std::filesystem::create_directories(dir_);
    Write("tokenizer.json", tokenizer_json);
  }
  ~TempModel() { std::filesystem::remove_all(dir_); }
  TempModel(const TempModel&) = delete;
  TempModel& operator=(const TempModel&) = delete;

  void Write(const std::string& name, const std::string& text) {
    std::ofstream(dir_ / name, std::ios::binary) << text;
  }
  const std::filesystem::path& dir() const { return dir_; }

 private:
  std::filesystem::path dir_;
};

}  // namespace kvs
