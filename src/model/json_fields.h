// Typed, range-checked access to the fields of a JSON object. The first mistake is kept and
// reported at the end, so that a reader of many fields stays a list of fields.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "kvserve/ids.h"
#include "kvserve/status.h"
#include "model/json_file.h"

namespace kvs {

class JsonFields {
 public:
  // `where` begins every message: the file, and the enclosing field if any. `object` must outlive
  // this.
  JsonFields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {}

  // Present and not null.
  bool Has(const char* key) const { return Find(key) != nullptr; }
  const Json* Find(const char* key) const;
  // Present, and null.
  bool IsNull(const char* key) const;
  // Keys of the object that no other method was asked for, sorted.
  std::vector<std::string> UnaskedKeys() const;

  // A missing field takes `fallback`; without one it is a mistake. After a mistake the value
  // returned is `low` (or the like), never out of range.
  uint32_t Uint(const char* key, uint32_t low, uint32_t high,
                std::optional<uint32_t> fallback = std::nullopt);
  double Number(const char* key, double low, double high,
                std::optional<double> fallback = std::nullopt);
  bool Bool(const char* key, bool fallback);
  std::string String(const char* key, std::string_view fallback);
  // A list of integers < `end`; empty when missing.
  std::vector<uint32_t> Uints(const char* key, uint32_t end);
  // One id or a list of ids, each < vocab_size; empty when missing.
  std::vector<TokenId> TokenIds(const char* key, uint32_t vocab_size);

  // Records: "WHERE: KEY is VALUE; EXPECTED".
  void Refuse(const char* key, std::string_view expected);
  void Fail(Status status);

  const std::optional<Status>& error() const { return error_; }

 private:
  const Json& object_;
  std::string where_;
  std::optional<Status> error_;
  mutable std::set<std::string, std::less<>> asked_;
};

}  // namespace kvs
