// UTF-8: validation, code points, and decoding of bytes that arrive in pieces.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace kvs {

// Byte offset of the first byte at which `text` stops being UTF-8 (RFC 3629: no surrogates, no
// overlong forms, nothing above U+10FFFF); nullopt when all of it is.
std::optional<size_t> FindInvalidUtf8(std::string_view text);

struct CodePoint {
  uint32_t value;
  uint32_t num_bytes;  // 1 to 4
};

// The code point at `offset`. REQUIRES: `text` is UTF-8 and `offset` is a character's first byte.
CodePoint CodePointAt(std::string_view text, size_t offset);

// The code point that ends at `end`. REQUIRES: as above, and end > 0.
CodePoint CodePointBefore(std::string_view text, size_t end);

void AppendUtf8(uint32_t code_point, std::string& out);

// Turns bytes that arrive in pieces into whole characters. What cannot become a character any more
// is replaced by U+FFFD, one for each maximal part (Unicode 15, section 3.9, table 3-8), so that
// the text does not depend on the cuts.
class Utf8Decoder {
 public:
  void Append(std::string_view bytes, std::string& out);
  // Ends the text: an incomplete character becomes U+FFFD.
  void Flush(std::string& out);

  // Characters added so far.
  uint64_t num_chars() const { return num_chars_; }

 private:
  void Replace(std::string& out);
  void Begin(unsigned char byte, std::string& out);

  // A character that has begun: its bytes, how many are missing, and what the next one may be.
  char pending_[4] = {};
  uint8_t num_pending_ = 0;
  uint8_t num_missing_ = 0;
  unsigned char next_min_ = 0x80;
  unsigned char next_max_ = 0xBF;
  uint64_t num_chars_ = 0;
};

}  // namespace kvs
