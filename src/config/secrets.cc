#include "config/secrets.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <sstream>
#include <string_view>
#include <system_error>

namespace kvs {
namespace {

constexpr size_t kKeyFileBytesMax = 64 << 10;

// Readable as a regular file, or the sentence that says why not.
Result<void> CheckReadable(const char* flag, const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) {
    return Error(
        Code::kConfigError,
        fmt::format("{}: cannot open '{}': {}", flag, path, std::generic_category().message(errno)),
        flag);
  }
  if (S_ISDIR(info.st_mode)) {
    return Error(Code::kConfigError,
                 fmt::format("{}: expected a file, got the directory '{}'", flag, path), flag);
  }
  if (!std::ifstream(path)) {
    return Error(
        Code::kConfigError,
        fmt::format("{}: cannot open '{}': {}", flag, path, std::generic_category().message(errno)),
        flag);
  }
  return {};
}

std::string_view Trim(std::string_view line) {
  const auto is_space = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
  while (!line.empty() && is_space(line.front())) line.remove_prefix(1);
  while (!line.empty() && is_space(line.back())) line.remove_suffix(1);
  return line;
}

}  // namespace

Result<std::vector<std::string>> ReadApiKeyFile(const std::string& path) {
  constexpr const char* kFlag = "--api-key-file";
  KVS_RETURN_IF_ERROR(CheckReadable(kFlag, path));
  std::ifstream file(path, std::ios::binary);
  std::string text(kKeyFileBytesMax + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > kKeyFileBytesMax) {
    return Error(
        Code::kConfigError,
        fmt::format("{}: '{}' is larger than the {} bytes allowed", kFlag, path, kKeyFileBytesMax),
        kFlag);
  }
  std::vector<std::string> keys;
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    const std::string_view key = Trim(line);
    if (key.empty() || key[0] == '#') continue;
    if (!std::all_of(key.begin(), key.end(), [](char c) { return c > 32 && c < 127; })) {
      return Error(Code::kConfigError,
                   fmt::format("{}: {}:{}: expected one key of visible ASCII characters without "
                               "spaces",
                               kFlag, path, number),
                   kFlag);
    }
    keys.emplace_back(key);
  }
  if (keys.empty()) {
    return Error(Code::kConfigError,
                 fmt::format("{}: '{}' holds no key; expected one a line", kFlag, path), kFlag);
  }
  return keys;
}

Result<void> CheckTlsFiles(const HttpOptions& options) {
  if (options.ssl_certfile.empty() && options.ssl_keyfile.empty()) return {};
  if (options.ssl_keyfile.empty() || options.ssl_certfile.empty()) {
    const bool has_certificate = options.ssl_keyfile.empty();
    const char* given = has_certificate ? "--ssl-certfile" : "--ssl-keyfile";
    const char* missing = has_certificate ? "--ssl-keyfile" : "--ssl-certfile";
    return Error(Code::kInvalidArgument,
                 fmt::format("{}: got '{}' without {}; HTTPS needs both", given,
                             has_certificate ? options.ssl_certfile : options.ssl_keyfile, missing),
                 missing);
  }
  KVS_RETURN_IF_ERROR(CheckReadable("--ssl-certfile", options.ssl_certfile));
  return CheckReadable("--ssl-keyfile", options.ssl_keyfile);
}

}  // namespace kvs
