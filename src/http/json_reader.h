// JsonReader: one JSON object of a client, read field by field with its bounds. The door to the
// JSON library on the serving side.
//
// The first refusal is kept and ends the reading: the reads after it do nothing. null counts as
// absent. Booleans are only true and false; an integer may be written 1.0, never 1.5.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "http/api_error.h"
#include "kvserve/ids.h"

namespace kvs {

using Json = nlohmann::json;

inline constexpr int kMaxJsonDepth = 64;

// Valid UTF-8, no duplicate keys, no number beyond a double, at most kMaxJsonDepth deep. Linear in
// the text, without recursion.
ApiResult<Json> ParseJson(std::string_view text);

// An integer as JSON writes it; nullopt when it is not one or does not fit.
std::optional<int64_t> IntegerOf(const Json& value);
// The value as a message shows it: short, one line.
std::string Shown(const Json& value);

class JsonReader {
 public:
  // `object` outlives the reader. `prefix` is put before the names in messages ("stream_options.").
  explicit JsonReader(const Json& object, std::string prefix = {});

  // Null when the field is absent or null, or after a refusal.
  const Json* Find(std::string_view name);
  // All leave `out` as it was when the field is absent.
  void Bool(std::string_view name, bool& out);
  void Integer(std::string_view name, int64_t low, int64_t high, int64_t& out);
  void Number(std::string_view name, double low, double high, float& out);
  void String(std::string_view name, size_t max_bytes, std::string& out);
  // Token ids below `vocab_size`; at most `max_count`.
  void TokenIds(std::string_view name, size_t max_count, uint32_t vocab_size,
                std::vector<TokenId>& out);

  void Refuse(std::string_view name, std::string_view what);
  void Refuse(ApiError error);
  const std::optional<ApiError>& error() const { return error_; }

 private:
  const Json& object_;
  const std::string prefix_;
  std::optional<ApiError> error_;
};

}  // namespace kvs
