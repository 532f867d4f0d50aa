#include "model/json_fields.h"

#include <fmt/format.h>

#include <utility>

namespace kvs {
namespace {

constexpr size_t kShownCharacters = 80;

std::string ShownOrMissing(const Json* value) {
  if (value == nullptr) return "missing";
  std::string text = value->dump(-1, ' ', true);  // ASCII: may be cut anywhere
  if (text.size() > kShownCharacters) text = text.substr(0, kShownCharacters) + "...";
  return text;
}

}  // namespace

const Json* JsonFields::Find(const char* key) const {
  asked_.insert(key);
  const auto it = object_.find(key);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

bool JsonFields::IsNull(const char* key) const {
  asked_.insert(key);
  const auto it = object_.find(key);
  return it != object_.end() && it->is_null();
}

std::vector<std::string> JsonFields::UnaskedKeys() const {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object_.items()) {
    if (asked_.count(key) == 0) keys.push_back(key);
  }
  return keys;
}

uint32_t JsonFields::Uint(const char* key, uint32_t low, uint32_t high,
                          std::optional<uint32_t> fallback) {
  const Json* value = Find(key);
  if (value == nullptr && fallback) return *fallback;
  if (value != nullptr && value->is_number_unsigned()) {
    const uint64_t number = value->get<uint64_t>();
    if (number >= low && number <= high) return static_cast<uint32_t>(number);
  }
  Refuse(key, fmt::format("an integer from {} to {} is supported", low, high));
  return low;
}

double JsonFields::Number(const char* key, double low, double high,
                          std::optional<double> fallback) {
  const Json* value = Find(key);
  if (value == nullptr && fallback) return *fallback;
  if (value != nullptr && value->is_number()) {
    const double number = value->get<double>();
    if (number >= low && number <= high) return number;
  }
  Refuse(key, fmt::format("a number from {} to {} is supported", low, high));
  return low;
}

bool JsonFields::Bool(const char* key, bool fallback) {
  const Json* value = Find(key);
  if (value == nullptr) return fallback;
  if (value->is_boolean()) return value->get<bool>();
  Refuse(key, "true or false is expected");
  return fallback;
}

std::string JsonFields::String(const char* key, std::string_view fallback) {
  const Json* value = Find(key);
  if (value == nullptr) return std::string(fallback);
  if (value->is_string()) return value->get<std::string>();
  Refuse(key, "a string is expected");
  return std::string(fallback);
}

std::vector<uint32_t> JsonFields::Uints(const char* key, uint32_t end) {
  const Json* value = Find(key);
  std::vector<uint32_t> numbers;
  bool valid = value == nullptr || value->is_array();
  for (size_t i = 0; valid && value != nullptr && i < value->size(); ++i) {
    const Json& number = (*value)[i];
    valid = number.is_number_unsigned() && number.get<uint64_t>() < end;
    if (valid) numbers.push_back(number.get<uint32_t>());
  }
  if (valid) return numbers;
  Refuse(key, fmt::format("a list of integers below {} is expected", end));
  return {};
}

std::vector<TokenId> JsonFields::TokenIds(const char* key, uint32_t vocab_size) {
  const Json* value = Find(key);
  std::vector<TokenId> ids;
  if (value == nullptr) return ids;
  const auto add = [&](const Json& id) {
    const bool valid = id.is_number_unsigned() && id.get<uint64_t>() < vocab_size;
    if (valid) ids.push_back({id.get<uint32_t>()});
    return valid;
  };
  bool valid = true;
  if (value->is_array()) {
    for (const Json& id : *value) valid = valid && add(id);
  } else {
    valid = add(*value);
  }
  if (valid) return ids;
  Refuse(key, fmt::format("token ids below vocab_size ({}) are expected", vocab_size));
  return {};
}

void JsonFields::Refuse(const char* key, std::string_view expected) {
  Fail({Code::kDataError,
        fmt::format("{}: {} is {}; {}", where_, key, ShownOrMissing(Find(key)), expected)});
}

void JsonFields::Fail(Status status) {
  if (!error_) error_ = std::move(status);
}

}  // namespace kvs
