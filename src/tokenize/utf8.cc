#include "tokenize/utf8.h"

#include <cstring>

#include "kvserve/check.h"

namespace kvs {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// What a first byte announces: how many bytes follow, and the range of the second one, which is
// where overlong forms, surrogates and values above U+10FFFF are told apart.
struct Lead {
  uint8_t num_following;  // 0: not a first byte
  unsigned char next_min;
  unsigned char next_max;
};

constexpr Lead LeadOf(unsigned char byte) {
  if (byte >= 0xC2 && byte <= 0xDF) return {1, 0x80, 0xBF};
  if (byte == 0xE0) return {2, 0xA0, 0xBF};
  if (byte == 0xED) return {2, 0x80, 0x9F};
  if (byte >= 0xE1 && byte <= 0xEF) return {2, 0x80, 0xBF};
  if (byte == 0xF0) return {3, 0x90, 0xBF};
  if (byte >= 0xF1 && byte <= 0xF3) return {3, 0x80, 0xBF};
  if (byte == 0xF4) return {3, 0x80, 0x8F};
  return {0, 0, 0};
}

constexpr unsigned char Byte(char c) { return static_cast<unsigned char>(c); }

// Length of the run of ASCII at the start of `text`.
size_t AsciiPrefix(std::string_view text) {
  size_t i = 0;
  for (; i + 8 <= text.size(); i += 8) {
    uint64_t word;
    std::memcpy(&word, text.data() + i, 8);
    if (word & 0x8080808080808080u) break;
  }
  while (i < text.size() && Byte(text[i]) < 0x80) ++i;
  return i;
}

// Bytes of the character at the start of `text`, or 0 when there is no whole valid one.
size_t ValidCharacter(std::string_view text) {
  const Lead lead = LeadOf(Byte(text[0]));
  if (lead.num_following == 0 || text.size() <= lead.num_following) return 0;
  if (Byte(text[1]) < lead.next_min || Byte(text[1]) > lead.next_max) return 0;
  for (size_t i = 2; i <= lead.num_following; ++i) {
    if ((Byte(text[i]) & 0xC0) != 0x80) return 0;
  }
  return size_t{lead.num_following} + 1;
}

}  // namespace

std::optional<size_t> FindInvalidUtf8(std::string_view text) {
  size_t i = 0;
  while (true) {
    i += AsciiPrefix(text.substr(i));
    if (i == text.size()) return std::nullopt;
    const size_t length = ValidCharacter(text.substr(i));
    if (length == 0) return i;
    i += length;
  }
}

CodePoint CodePointAt(std::string_view text, size_t offset) {
  const auto at = [&](size_t i) { return uint32_t{Byte(text[offset + i])}; };
  const uint32_t first = at(0);
  if (first < 0x80) return {first, 1};
  if (first < 0xE0) return {(first & 0x1F) << 6 | (at(1) & 0x3F), 2};
  if (first < 0xF0) return {(first & 0x0F) << 12 | (at(1) & 0x3F) << 6 | (at(2) & 0x3F), 3};
  return {(first & 0x07) << 18 | (at(1) & 0x3F) << 12 | (at(2) & 0x3F) << 6 | (at(3) & 0x3F), 4};
}

CodePoint CodePointBefore(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while ((Byte(text[begin]) & 0xC0) == 0x80) --begin;
  return CodePointAt(text, begin);
}

void AppendUtf8(uint32_t code_point, std::string& out) {
  KVS_CHECK_OP(code_point, <, 0x110000u);
  const auto put = [&](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) return put(code_point);
  if (code_point < 0x800) {
    put(0xC0 | code_point >> 6);
  } else {
    if (code_point < 0x10000) {
      put(0xE0 | code_point >> 12);
    } else {
      put(0xF0 | code_point >> 18);
      put(0x80 | (code_point >> 12 & 0x3F));
    }
    put(0x80 | (code_point >> 6 & 0x3F));
  }
  put(0x80 | (code_point & 0x3F));
}

void Utf8Decoder::Replace(std::string& out) {
  out += kReplacement;
  ++num_chars_;
  num_pending_ = 0;
  num_missing_ = 0;
}

void Utf8Decoder::Begin(unsigned char byte, std::string& out) {
  const Lead lead = LeadOf(byte);
  if (lead.num_following == 0) return Replace(out);
  pending_[0] = static_cast<char>(byte);
  num_pending_ = 1;
  num_missing_ = lead.num_following;
  next_min_ = lead.next_min;
  next_max_ = lead.next_max;
}

void Utf8Decoder::Append(std::string_view bytes, std::string& out) {
  size_t i = 0;
  while (i < bytes.size()) {
    if (num_missing_ == 0) {
      const size_t ascii = AsciiPrefix(bytes.substr(i));
      out.append(bytes, i, ascii);
      num_chars_ += ascii;
      i += ascii;
      if (i == bytes.size()) return;
      if (const size_t length = ValidCharacter(bytes.substr(i))) {
        out.append(bytes, i, length);
        ++num_chars_;
        i += length;
      } else {
        Begin(Byte(bytes[i++]), out);
      }
      continue;
    }
    const unsigned char byte = Byte(bytes[i]);
    if (byte < next_min_ || byte > next_max_) {
      Replace(out);  // what had begun can no longer be completed; `byte` starts anew
      continue;
    }
    ++i;
    pending_[num_pending_++] = static_cast<char>(byte);
    next_min_ = 0x80;
    next_max_ = 0xBF;
    if (--num_missing_ == 0) {
      out.append(pending_, num_pending_);
      ++num_chars_;
      num_pending_ = 0;
    }
  }
}

void Utf8Decoder::Flush(std::string& out) {
  if (num_missing_ > 0) Replace(out);
}

}  // namespace kvs
