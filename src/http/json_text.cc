#include "http/json_text.h"

#include <array>

#include "tokenize/utf8.h"

namespace kvs {
namespace {

constexpr std::array<bool, 256> kNeedsEscape = [] {
  std::array<bool, 256> table{};
  for (int c = 0; c < 0x20; ++c) table[c] = true;
  table['"'] = true;
  table['\\'] = true;
  table[0x7f] = true;
  return table;
}();

void AppendEscape(unsigned char c, std::string& out) {
  constexpr char kHex[] = "0123456789abcdef";
  switch (c) {
    case '"':
      out += "\\\"";
      return;
    case '\\':
      out += "\\\\";
      return;
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    default:
      out += "\\u00";
      out += kHex[c >> 4];
      out += kHex[c & 15];
  }
}

}  // namespace

void AppendEscaped(std::string_view utf8, std::string& out) {
  size_t begin = 0;
  for (size_t i = 0; i < utf8.size(); ++i) {
    const auto c = static_cast<unsigned char>(utf8[i]);
    if (!kNeedsEscape[c]) continue;
    out.append(utf8, begin, i - begin);
    AppendEscape(c, out);
    begin = i + 1;
  }
  out.append(utf8, begin, utf8.size() - begin);
}

void AppendJsonString(std::string_view text, std::string& out) {
  out += '"';
  if (!FindInvalidUtf8(text)) {
    AppendEscaped(text, out);
  } else {
    std::string valid;
    Utf8Decoder decoder;
    decoder.Append(text, valid);
    decoder.Flush(valid);
    AppendEscaped(valid, out);
  }
  out += '"';
}

}  // namespace kvs
