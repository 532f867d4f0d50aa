// What the tests of this folder share: files, and a device.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "kvserve/device_info.h"
#include "support/temp_dir.h"

namespace kvs {

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
