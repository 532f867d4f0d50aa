// Field: a value of a JSON document that knows its path, for readers that check as they go. Part of
// tokenizer_file's door to nlohmann/json: a wrong value throws DataError, which never leaves it.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kvs::internal {

// A sentence that begins with the path of the field at fault.
struct DataError {
  std::string message;
};

class Field {
 public:
  // `value` must outlive the field.
  Field(const nlohmann::json& value, std::string path) : value_(&value), path_(std::move(path)) {}

  const nlohmann::json& json() const { return *value_; }
  const std::string& path() const { return path_; }

  [[noreturn]] void Fail(const std::string& message) const {
    throw DataError{fmt::format("{}: {}", path_, message)};
  }

  // The member `key`; nullopt when it is absent or null.
  std::optional<Field> Find(const char* key) const {
    Expect(value_->is_object(), "an object");
    const auto found = value_->find(key);
    if (found == value_->end() || found->is_null()) return std::nullopt;
    return Field(*found, path_ + "." + key);
  }
  Field At(const char* key) const {
    std::optional<Field> field = Find(key);
    if (!field) Fail(fmt::format("'{}' is missing", key));
    return *std::move(field);
  }
  std::vector<Field> Items() const {
    Expect(value_->is_array(), "an array");
    std::vector<Field> items;
    for (const auto& item : *value_) {
      items.emplace_back(item, fmt::format("{}[{}]", path_, items.size()));
    }
    return items;
  }

  bool Bool() const {
    Expect(value_->is_boolean(), "true or false");
    return value_->get<bool>();
  }
  bool BoolOr(const char* key, bool fallback) const {
    const std::optional<Field> field = Find(key);
    return field ? field->Bool() : fallback;
  }
  const std::string& String() const {
    Expect(value_->is_string(), "a string");
    return value_->get_ref<const std::string&>();
  }
  uint32_t Uint(uint32_t limit) const {
    const auto text = [&] { return fmt::format("an integer in [0, {})", limit); };
    if (!value_->is_number_unsigned() || value_->get<uint64_t>() >= limit) Expect(false, text());
    return value_->get<uint32_t>();
  }

  // Every member must be one of `keys`: what is not understood is refused, not ignored.
  void AllowOnly(std::initializer_list<std::string_view> keys) const {
    Expect(value_->is_object(), "an object");
    for (const auto& member : value_->items()) {
      bool known = false;
      for (const std::string_view key : keys) known |= member.key() == key;
      if (!known) Fail(fmt::format("'{}' is not supported", Shortened(member.key())));
    }
  }

  void Expect(bool condition, const std::string& what) const {
    if (!condition) Fail(fmt::format("expected {}, got {}", what, Printed()));
  }

  static std::string Shortened(std::string_view text) {
    constexpr size_t kMaxBytes = 60;
    if (text.size() <= kMaxBytes) return std::string(text);
    size_t end = kMaxBytes;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    return std::string(text.substr(0, end)) + "...";
  }

 private:
  std::string Printed() const {
    if (value_->is_structured()) return value_->is_array() ? "an array" : "an object";
    return Shortened(value_->dump());
  }

  const nlohmann::json* value_;
  std::string path_;
};

}  // namespace kvs::internal
