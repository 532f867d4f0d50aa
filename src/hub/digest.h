// The names that the Hub gives to content.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "kvserve/status.h"

namespace kvs {

// 64 hex digits: the SHA-256 of a file in large-file storage. 40: Git's name of a blob.
bool IsContentHash(const std::string& etag);

// The hash of the file, of the kind that `etag` is. `on_bytes` is told how much was read, and ends
// it by returning false (kUnavailable). kOsError when the file cannot be read.
// REQUIRES: IsContentHash(etag).
Result<std::string> HashOfFile(const std::filesystem::path& path, const std::string& etag,
                               const std::function<bool(uint64_t bytes)>& on_bytes);

}  // namespace kvs
