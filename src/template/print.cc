#include "template/print.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "template/characters.h"
#include "template/error.h"
#include "template/object.h"
#include "tokenize/utf8.h"

namespace kvs::jinja {
namespace {

void CheckSize(const std::string& out) {
  if (out.size() > kMaxPrintedBytes) Fail("a value prints as over {} bytes", kMaxPrintedBytes);
}

void AppendEscaped(uint32_t c, std::string& out) {
  if (c < 0x100) {
    out += fmt::format("\\x{:02x}", c);
  } else if (c < 0x10000) {
    out += fmt::format("\\u{:04x}", c);
  } else {
    out += fmt::format("\\U{:08x}", c);
  }
}

void AppendStringRepr(const std::string& text, std::string& out) {
  const bool has_single = text.find('\'') != std::string::npos;
  const char quote = has_single && text.find('"') == std::string::npos ? '"' : '\'';
  out += quote;
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = CodePointAt(text, i);
    if (c.value == static_cast<uint32_t>(quote) || c.value == '\\') {
      out += '\\';
      out += static_cast<char>(c.value);
    } else if (c.value == '\n') {
      out += "\\n";
    } else if (c.value == '\r') {
      out += "\\r";
    } else if (c.value == '\t') {
      out += "\\t";
    } else if (IsPrintable(c.value)) {
      out.append(text, i, c.num_bytes);
    } else {
      AppendEscaped(c.value, out);
    }
    i += c.num_bytes;
  }
  out += quote;
}

void AppendRepr(const Value& value, std::string& out);

void AppendListRepr(const List& list, std::string& out) {
  out += list.is_tuple ? '(' : '[';
  for (const Value& item : list.items) {
    if (&item != list.items.data()) out += ", ";
    AppendRepr(item, out);
  }
  if (list.is_tuple && list.items.size() == 1) out += ',';
  out += list.is_tuple ? ')' : ']';
}

void AppendDictRepr(const Dict& dict, std::string& out) {
  out += '{';
  bool first = true;
  for (const auto& [key, value] : dict.entries()) {
    if (!first) out += ", ";
    first = false;
    AppendRepr(key, out);
    out += ": ";
    AppendRepr(value, out);
  }
  out += '}';
}

void AppendRepr(const Value& value, std::string& out) {
  CheckSize(out);
  switch (value.kind()) {
    case Value::Kind::kUndefined:
      out += "Undefined";
      return;
    case Value::Kind::kNone:
      out += "None";
      return;
    case Value::Kind::kBool:
      out += value.boolean() ? "True" : "False";
      return;
    case Value::Kind::kInt:
      out += std::to_string(value.integer());
      return;
    case Value::Kind::kFloat:
      out += FloatText(value.real());
      return;
    case Value::Kind::kString:
      return AppendStringRepr(value.bytes(), out);
    case Value::Kind::kList:
      return AppendListRepr(value.list(), out);
    case Value::Kind::kDict:
      return AppendDictRepr(value.dict(), out);
    case Value::Kind::kObject:
      out += "<" + value.object().type_name() + ">";
      return;
  }
}

// json.dumps, one value at a time.
class JsonPrinter {
 public:
  explicit JsonPrinter(const JsonFormat& format) : format_(format) {}

  void Append(const Value& value, size_t level) {
    CheckSize(out);
    switch (value.kind()) {
      case Value::Kind::kNone:
        out += "null";
        return;
      case Value::Kind::kBool:
        out += value.boolean() ? "true" : "false";
        return;
      case Value::Kind::kInt:
        out += std::to_string(value.integer());
        return;
      case Value::Kind::kFloat:
        return AppendFloat(value.real());
      case Value::Kind::kString:
        return AppendString(value.bytes());
      case Value::Kind::kList:
        return AppendList(value.list(), level);
      case Value::Kind::kDict:
        return AppendDict(value.dict(), level);
      default:
        Fail("Object of type {} is not JSON serializable", TypeName(value));
    }
  }

  std::string out;

 private:
  void AppendFloat(double value) {
    if (std::isnan(value)) {
      out += "NaN";
    } else if (std::isinf(value)) {
      out += value > 0 ? "Infinity" : "-Infinity";
    } else {
      out += FloatText(value);
    }
  }

  void AppendUnit(uint32_t unit) { out += fmt::format("\\u{:04x}", unit); }

  void AppendString(const std::string& text) {
    out += '"';
    for (size_t i = 0; i < text.size();) {
      const CodePoint c = CodePointAt(text, i);
      AppendCharacter(c.value, std::string_view(text).substr(i, c.num_bytes));
      i += c.num_bytes;
    }
    out += '"';
  }

  void AppendCharacter(uint32_t c, std::string_view bytes) {
    constexpr std::string_view kNamed = "\"\\\n\r\t\f\b";
    constexpr std::string_view kNames = "\"\\nrtfb";
    const size_t named = c < 0x80 ? kNamed.find(static_cast<char>(c)) : std::string_view::npos;
    if (named != std::string_view::npos) {
      out += '\\';
      out += kNames[named];
    } else if (c >= 0x20 && (c < 0x7F || !format_.ensure_ascii)) {
      out += bytes;
    } else if (c < 0x10000) {
      AppendUnit(c);
    } else {
      AppendUnit(0xD800 + ((c - 0x10000) >> 10));
      AppendUnit(0xDC00 + ((c - 0x10000) & 0x3FF));
    }
  }

  void AppendLine(size_t level) {
    if (!format_.indent) return;
    out += '\n';
    for (size_t i = 0; i < level; ++i) out += *format_.indent;
    CheckSize(out);
  }

  void AppendList(const List& list, size_t level) {
    if (list.items.empty()) {
      out += "[]";
      return;
    }
    out += '[';
    for (const Value& item : list.items) {
      if (&item != list.items.data()) out += format_.item_separator;
      AppendLine(level + 1);
      Append(item, level + 1);
    }
    AppendLine(level);
    out += ']';
  }

  void AppendDict(const Dict& dict, size_t level) {
    if (dict.size() == 0) {
      out += "{}";
      return;
    }
    std::vector<const std::pair<Value, Value>*> entries;
    for (const auto& entry : dict.entries()) entries.push_back(&entry);
    if (format_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(), [](const auto* a, const auto* b) {
        const auto order = Order(a->first, b->first);
        if (!order) Fail("tojson(sort_keys=true) cannot order the keys");
        return *order < 0;
      });
    }
    out += '{';
    for (const auto* entry : entries) {
      if (entry != entries.front()) out += format_.item_separator;
      AppendLine(level + 1);
      AppendKey(entry->first);
      out += format_.key_separator;
      Append(entry->second, level + 1);
    }
    AppendLine(level);
    out += '}';
  }

  void AppendKey(const Value& key) {
    if (key.is_string()) return AppendString(key.bytes());
    if (key.is_list() || key.is_object()) {
      Fail("keys must be str, int, float, bool or None, not {}", TypeName(key));
    }
    out += '"';
    Append(key, 0);
    out += '"';
  }

  const JsonFormat& format_;
};

}  // namespace

std::string FloatText(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[32];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  const std::string_view shortest(buffer, static_cast<size_t>(end.ptr - buffer));
  const size_t e = shortest.find('e');
  const int exponent = std::atoi(std::string(shortest.substr(e + 1)).c_str());
  const bool negative = shortest[0] == '-';
  std::string digits;
  for (const char c : shortest.substr(0, e)) {
    if (c >= '0' && c <= '9') digits += c;
  }
  std::string text = negative ? "-" : "";
  if (exponent < -4 || exponent >= 16) {
    text += digits[0];
    if (digits.size() > 1) text += "." + digits.substr(1);
    return text + fmt::format("e{}{:02}", exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0)
    return text + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  const auto whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= whole) return text + digits + std::string(whole - digits.size(), '0') + ".0";
  return text + digits.substr(0, whole) + "." + digits.substr(whole);
}

Text Str(const Value& value) {
  if (value.is_string()) return value.text();
  if (value.is_undefined()) return {};
  return Text(Repr(value), HoldsUserText(value) ? Origin::kUser : Origin::kTemplate);
}

std::string Repr(const Value& value) {
  std::string out;
  AppendRepr(value, out);
  return out;
}

std::string ToJson(const Value& value, const JsonFormat& format) {
  JsonPrinter printer(format);
  printer.Append(value, 0);
  return std::move(printer.out);
}

}  // namespace kvs::jinja
