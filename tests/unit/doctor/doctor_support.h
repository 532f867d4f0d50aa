// What the tests of this folder share: a directory that goes away again, and a device.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "kvserve/device_info.h"

namespace kvs {

class TempDir {
 public:
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "kvserve_XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() { std::filesystem::remove_all(path_); }

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline std::string ReadAll(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void WriteAll(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

// The device of the article's crash.
inline DeviceInfo W7900() {
  DeviceInfo info;
  info.kind = DeviceKind::kHip;
  info.name = "AMD Radeon PRO W7900";
  info.architecture = "gfx1100";
  info.driver = "6.3";
  info.runtime = "6.3";
  info.wave_size = 32;
  return info;
}

}  // namespace kvs
