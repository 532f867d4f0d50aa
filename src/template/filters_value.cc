// Filters of single values: default, int, float, round, abs, attr, tojson, string, safe.
#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "template/builtins.h"
#include "template/characters.h"
#include "template/error.h"
#include "template/operators.h"
#include "template/print.h"

namespace kvs::jinja {
namespace {

Value Default(Render&, const Value& input, const BoundArguments& arguments) {
  const bool replace = input.is_undefined() || (arguments.Truth(1, false) && !IsTrue(input));
  if (!replace) return input;
  return arguments.Has(0) ? arguments[0] : Value(Text());
}

std::string StrippedText(const Value& value) {
  const std::string& bytes = value.bytes();
  const ByteSpan span = Stripped(bytes, nullptr, true, true);
  std::string text = bytes.substr(span.begin, span.end - span.begin);
  if (!text.empty() && text[0] == '+') text.erase(0, 1);
  return text;
}

std::optional<double> FloatOf(const Value& value) {
  if (value.is_number()) return value.real();
  if (!value.is_string()) return std::nullopt;
  const std::string text = StrippedText(value);
  double number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) {
    return std::nullopt;
  }
  return number;
}

std::optional<int64_t> TruncatedTo64(double number) {
  if (!(std::fabs(number) < 9.2e18)) return std::nullopt;
  return static_cast<int64_t>(number);
}

Value ToInt(Render&, const Value& input, const BoundArguments& arguments) {
  RequireDefined(input);
  Value otherwise = arguments.Has(0) ? arguments[0] : Value(int64_t{0});
  const int64_t base = arguments.Integer(1, 10);
  if (base != 10 && (base < 2 || base > 36)) return otherwise;
  if (input.is_integral()) return Value(input.integer());
  if (input.is_string()) {
    const std::string text = StrippedText(input);
    int64_t number = 0;
    const auto parsed =
        std::from_chars(text.data(), text.data() + text.size(), number, static_cast<int>(base));
    if (!text.empty() && parsed.ec == std::errc() && parsed.ptr == text.data() + text.size()) {
      return Value(number);
    }
  }
  const auto number = FloatOf(input);
  const auto whole = number ? TruncatedTo64(*number) : std::nullopt;
  return whole ? Value(*whole) : otherwise;
}

Value ToFloat(Render&, const Value& input, const BoundArguments& arguments) {
  RequireDefined(input);
  if (const auto number = FloatOf(input)) return Value(*number);
  return arguments.Has(0) ? arguments[0] : Value(0.0);
}

Value Abs(Render& render, const Value& input, const BoundArguments&) {
  RequireDefined(input);
  if (!input.is_number()) Fail("bad operand type for abs(): '{}'", TypeName(input));
  if (!input.is_integral()) return Value(std::fabs(input.real()));
  if (input.integer() >= 0) return Value(input.integer());
  return Arithmetic(render, "-", Value(int64_t{0}), input);
}

Value Round(Render&, const Value& input, const BoundArguments& arguments) {
  RequireDefined(input);
  if (!input.is_number()) Fail("type {} cannot be rounded", TypeName(input));
  const int64_t precision = arguments.Integer(0, 0);
  if (precision < 0 || precision > 300) Fail("round(): precision from 0 to 300, got {}", precision);
  const std::string method = arguments.Has(1) ? arguments.String(1).bytes() : "common";
  if (method == "common") {
    if (input.is_integral()) return Value(input.integer());
    // The decimal text is correctly rounded, ties on the exact binary value to even, as Python's.
    return Value(std::strtod(fmt::format("{:.{}f}", input.real(), precision).c_str(), nullptr));
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (method == "ceil") return Value(std::ceil(input.real() * scale) / scale);
  if (method == "floor") return Value(std::floor(input.real() * scale) / scale);
  Fail("method must be common, ceil or floor");
}

Value Attr(Render& render, const Value& input, const BoundArguments& arguments) {
  RequireDefined(input);
  const std::string& name = arguments.String(0).bytes();
  // Attributes alone, no keys.
  if (input.is_dict() && !HasMethod(input, name)) {
    return Value::OfUndefined(fmt::format("'dict object' has no attribute '{}'", name));
  }
  return GetAttribute(render, input, name);
}

void ReadSeparators(Render& render, const Value& separators, JsonFormat& format) {
  const std::vector<Value> parts = ItemsOf(render, separators);
  if (parts.size() != 2 || !parts[0].is_string() || !parts[1].is_string()) {
    Fail("tojson(): separators must be two strings");
  }
  format.item_separator = parts[0].bytes();
  format.key_separator = parts[1].bytes();
}

Value ToJsonFilter(Render& render, const Value& input, const BoundArguments& arguments) {
  JsonFormat format;
  format.ensure_ascii = arguments.Truth(0, false);
  if (arguments.HasValue(1)) {
    constexpr int64_t kMaxIndent = 64;
    if (arguments[1].is_string()) {
      format.indent = arguments[1].bytes();
    } else {
      const int64_t width = arguments.Integer(1, 0);
      if (width > kMaxIndent) Fail("tojson(): indent must be at most {}", kMaxIndent);
      format.indent = std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
    }
    format.item_separator = ",";
  }
  if (arguments.HasValue(2)) ReadSeparators(render, arguments[2], format);
  format.sort_keys = arguments.Truth(3, false);
  const Origin origin = HoldsUserText(input) ? Origin::kUser : Origin::kTemplate;
  std::string json = ToJson(input, format);
  render.CountSteps(json.size() / 64);
  return MakeString(render, Text(std::move(json), origin));
}

Value ToText(Render& render, const Value& input, const BoundArguments&) {
  return MakeString(render, Str(input));
}

constexpr std::array<Filter, 10> kValueFilters = {{
    {"default", {"default_value boolean", 0}, Default},
    {"d", {"default_value boolean", 0}, Default},
    {"int", {"default base", 0}, ToInt},
    {"float", {"default", 0}, ToFloat},
    {"abs", {}, Abs},
    {"round", {"precision method", 0}, Round},
    {"attr", {"name", 1}, Attr},
    {"tojson", {"ensure_ascii indent separators sort_keys", 0}, ToJsonFilter},
    {"string", {}, ToText},
    // Nothing is escaped here, so nothing need be exempt.
    {"safe", {}, ToText},
}};

}  // namespace

std::span<const Filter> ValueFilters() { return kValueFilters; }

}  // namespace kvs::jinja
