#include "template/percent_format.h"

#include <fmt/format.h>

#include <cmath>

#include "template/characters.h"
#include "template/error.h"
#include "template/print.h"

namespace kvs::jinja {
namespace {

struct Conversion {
  bool left = false;
  bool zero = false;
  bool plus = false;
  size_t width = 0;
  int precision = -1;
  char type = '\0';
};

size_t ParseNumber(const std::string& format, size_t& at) {
  size_t number = 0;
  const size_t begin = at;
  for (; at < format.size() && format[at] >= '0' && format[at] <= '9'; ++at) {
    if (at - begin >= 3) Fail("a format's width or precision has at most three digits");
    number = number * 10 + static_cast<size_t>(format[at] - '0');
  }
  return number;
}

// `at` is behind the '%', and behind the conversion afterwards.
Conversion ParseConversion(const std::string& format, size_t& at) {
  Conversion conversion;
  for (; at < format.size(); ++at) {
    if (format[at] == '-') {
      conversion.left = true;
    } else if (format[at] == '0') {
      conversion.zero = true;
    } else if (format[at] == '+') {
      conversion.plus = true;
    } else {
      break;
    }
  }
  conversion.width = ParseNumber(format, at);
  if (at < format.size() && format[at] == '.') {
    ++at;
    conversion.precision = static_cast<int>(ParseNumber(format, at));
  }
  if (at >= format.size()) Fail("incomplete format");
  conversion.type = format[at++];
  return conversion;
}

double NumberOf(const Conversion& conversion, const Value& value) {
  if (!value.is_number()) {
    Fail("%{} format: a real number is required, not {}", conversion.type, TypeName(value));
  }
  return value.real();
}

std::string NumberText(const Conversion& conversion, const Value& value) {
  const double number = NumberOf(conversion, value);
  std::string text;
  if (conversion.type == 'f') {
    text = fmt::format("{:.{}f}", number, conversion.precision < 0 ? 6 : conversion.precision);
  } else if (conversion.type == 'x') {
    if (!value.is_integral()) Fail("%x format: an integer is required, not {}", TypeName(value));
    text = fmt::format("{:x}", value.integer());
  } else if (value.is_integral()) {
    text = std::to_string(value.integer());
  } else {
    if (!(std::fabs(number) < 9e18)) Fail("%d format: the number does not fit in 64 bits");
    text = std::to_string(static_cast<int64_t>(number));
  }
  const bool negative = text[0] == '-';
  if (conversion.plus && !negative) text.insert(0, "+");
  if (conversion.zero && !conversion.left && text.size() < conversion.width) {
    text.insert(negative || conversion.plus ? 1 : 0, conversion.width - text.size(), '0');
  }
  return text;
}

Text Converted(const Conversion& conversion, const Value& value) {
  Text text;
  switch (conversion.type) {
    case 's':
      text = Str(value);
      break;
    case 'r':
      text = Text(Repr(value), HoldsUserText(value) ? Origin::kUser : Origin::kTemplate);
      break;
    case 'd':
    case 'i':
    case 'f':
    case 'x':
      return Text(NumberText(conversion, value), Origin::kTemplate);
    default:
      Fail("the format '%{}' is not supported: s, r, d, i, f, x, % are", conversion.type);
  }
  if (conversion.precision < 0) return text;
  return text.Slice(0, OffsetOf(text.bytes(), static_cast<size_t>(conversion.precision)));
}

}  // namespace

Text PercentFormat(const Text& format, const Value& arguments) {
  const std::string& bytes = format.bytes();
  const size_t num_arguments = arguments.is_tuple() ? arguments.list().items.size() : 1;
  size_t used = 0;
  Text out;
  for (size_t at = 0; at < bytes.size();) {
    const size_t percent = std::min(bytes.find('%', at), bytes.size());
    out.Append(format.Slice(at, percent));
    at = percent;
    if (at == bytes.size()) break;
    const Conversion conversion = ParseConversion(bytes, ++at);
    if (conversion.type == '%') {
      out.Append("%", format.origin());
      continue;
    }
    if (used == num_arguments) Fail("not enough arguments for format string");
    const Value& value = arguments.is_tuple() ? arguments.list().items[used] : arguments;
    ++used;
    const Text text = Converted(conversion, value);
    const size_t length = NumChars(text.bytes());
    const std::string pad(conversion.width > length ? conversion.width - length : 0, ' ');
    if (!conversion.left) out.Append(pad, Origin::kTemplate);
    out.Append(text);
    if (conversion.left) out.Append(pad, Origin::kTemplate);
  }
  if (used != num_arguments && !(arguments.is_dict() && used == 0)) {
    Fail("not all arguments converted during string formatting");
  }
  return out;
}

}  // namespace kvs::jinja
