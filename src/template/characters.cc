#include "template/characters.h"

#include <utf8proc.h>

#include <algorithm>

#include "tokenize/utf8.h"

namespace kvs::jinja {
namespace {

constexpr uint32_t kSharpS = 0xDF;

utf8proc_category_t CategoryOf(uint32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

// Maps every character; `map` is called with each code point and appends its image.
template <class Map>
Text MapCharacters(const Text& text, Map map) {
  Text mapped;
  std::string image;
  text.ForEachRun([&](std::string_view run, Origin origin) {
    image.clear();
    for (size_t i = 0; i < run.size();) {
      const CodePoint c = CodePointAt(run, i);
      i += c.num_bytes;
      map(c.value, image);
    }
    mapped.Append(image, origin);
  });
  return mapped;
}

bool IsCased(uint32_t c) {
  return IsUpper(c) || IsLower(c) || CategoryOf(c) == UTF8PROC_CATEGORY_LT;
}

}  // namespace

bool IsSpace(uint32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x1F);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsLineBreak(uint32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

bool IsPrintable(uint32_t c) {
  switch (CategoryOf(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    case UTF8PROC_CATEGORY_ZS:
      return c == ' ';
    default:
      return true;
  }
}

bool IsLetter(uint32_t c) {
  const utf8proc_category_t category = CategoryOf(c);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

bool IsDigit(uint32_t c) { return CategoryOf(c) == UTF8PROC_CATEGORY_ND; }
bool IsUpper(uint32_t c) { return CategoryOf(c) == UTF8PROC_CATEGORY_LU; }
bool IsLower(uint32_t c) { return CategoryOf(c) == UTF8PROC_CATEGORY_LL; }

void AppendInCase(uint32_t c, Case wanted, std::string& out) {
  if (wanted == Case::kSwapped) wanted = IsUpper(c) ? Case::kLower : Case::kUpper;
  if (c == kSharpS && wanted != Case::kLower) {
    out += wanted == Case::kUpper ? "SS" : "Ss";
    return;
  }
  const auto point = static_cast<utf8proc_int32_t>(c);
  const utf8proc_int32_t mapped = wanted == Case::kUpper   ? utf8proc_toupper(point)
                                  : wanted == Case::kLower ? utf8proc_tolower(point)
                                                           : utf8proc_totitle(point);
  AppendUtf8(static_cast<uint32_t>(mapped), out);
}

Text ToUpper(const Text& text) {
  return MapCharacters(text,
                       [](uint32_t c, std::string& out) { AppendInCase(c, Case::kUpper, out); });
}

Text ToLower(const Text& text) {
  return MapCharacters(text,
                       [](uint32_t c, std::string& out) { AppendInCase(c, Case::kLower, out); });
}

Text SwapCased(const Text& text) {
  return MapCharacters(text,
                       [](uint32_t c, std::string& out) { AppendInCase(c, Case::kSwapped, out); });
}

Text Capitalized(const Text& text) {
  bool first = true;
  return MapCharacters(text, [&first](uint32_t c, std::string& out) {
    AppendInCase(c, first ? Case::kTitle : Case::kLower, out);
    first = false;
  });
}

Text TitleCased(const Text& text) {
  bool in_word = false;
  return MapCharacters(text, [&in_word](uint32_t c, std::string& out) {
    AppendInCase(c, in_word ? Case::kLower : Case::kTitle, out);
    in_word = IsCased(c);
  });
}

size_t NumChars(std::string_view utf8) {
  const auto begins = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; };
  return static_cast<size_t>(std::count_if(utf8.begin(), utf8.end(), begins));
}

size_t OffsetOf(std::string_view utf8, size_t index) {
  size_t offset = 0;
  while (index > 0 && offset < utf8.size()) {
    offset += CodePointAt(utf8, offset).num_bytes;
    --index;
  }
  return offset;
}

std::vector<uint32_t> CodePoints(std::string_view utf8) {
  std::vector<uint32_t> points;
  for (size_t i = 0; i < utf8.size();) {
    const CodePoint c = CodePointAt(utf8, i);
    i += c.num_bytes;
    points.push_back(c.value);
  }
  return points;
}

ByteSpan Stripped(std::string_view text, const std::string* drop, bool left, bool right) {
  const std::vector<uint32_t> set = drop != nullptr ? CodePoints(*drop) : std::vector<uint32_t>();
  const auto drops = [&](uint32_t c) {
    return drop == nullptr ? IsSpace(c) : std::find(set.begin(), set.end(), c) != set.end();
  };
  ByteSpan span{0, text.size()};
  while (left && span.begin < span.end) {
    const CodePoint c = CodePointAt(text, span.begin);
    if (!drops(c.value)) break;
    span.begin += c.num_bytes;
  }
  while (right && span.begin < span.end) {
    const CodePoint c = CodePointBefore(text, span.end);
    if (!drops(c.value)) break;
    span.end -= c.num_bytes;
  }
  return span;
}

}  // namespace kvs::jinja
