// JSON of a model directory, which is untrusted: bounded in bytes, depth and number of values, and
// without duplicate keys. The only door to nlohmann/json in this layer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "kvserve/status.h"

namespace kvs {

using Json = nlohmann::json;

struct JsonLimits {
  uint64_t max_bytes = 8u << 20;
  size_t max_depth = 32;          // arrays and objects inside one another
  size_t max_values = 4'000'000;  // scalars, arrays and objects
};

// An object, or kDataError in one sentence that begins with `name`.
Result<Json> ParseJsonObject(std::string_view text, const JsonLimits& limits,
                             const std::string& name);

// The same for a whole file; kNotFound when it cannot be opened.
Result<Json> ReadJsonObject(const std::filesystem::path& path, const JsonLimits& limits);

// The member, or nullptr when `object` is none, the member is missing, or it is null.
const Json* FindMember(const Json& object, const char* key);

// A value as an error message shows it: JSON, at most 80 bytes.
std::string Excerpt(const Json& value);

}  // namespace kvs
