// Values as Python prints them: str(), repr(), and json.dumps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "template/value.h"

namespace kvs::jinja {

// Nothing printed is longer; TemplateError beyond it.
inline constexpr size_t kMaxPrintedBytes = size_t{64} << 20;

// "1.0", "1e+16", "inf": the shortest digits that read back, laid out by Python's rules.
std::string FloatText(double value);
// str(value). A string is itself, origins included; what holds a text of the user's is the user's.
Text Str(const Value& value);
std::string Repr(const Value& value);

struct JsonFormat {
  bool ensure_ascii = false;
  std::optional<std::string> indent = std::nullopt;  // of one level; absent: all on one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
};
// Throws TemplateError on what JSON has no word for.
std::string ToJson(const Value& value, const JsonFormat& format);

}  // namespace kvs::jinja
