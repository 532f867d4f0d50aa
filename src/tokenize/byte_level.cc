#include "tokenize/byte_level.h"

#include <array>

#include "tokenize/utf8.h"

namespace kvs {
namespace {

constexpr uint32_t kNumChars = 256 + 68;  // no byte is spelled by a character from here on

constexpr bool StandsForItself(uint32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Tables {
  std::array<uint16_t, 256> char_of_byte{};
  std::array<int16_t, kNumChars> byte_of_char{};  // -1: stands for no byte
};

constexpr Tables MakeTables() {
  Tables tables;
  for (int16_t& byte : tables.byte_of_char) byte = -1;
  uint32_t next = 256;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const uint32_t c = StandsForItself(byte) ? byte : next++;
    tables.char_of_byte[byte] = static_cast<uint16_t>(c);
    tables.byte_of_char[c] = static_cast<int16_t>(byte);
  }
  return tables;
}

constexpr Tables kTables = MakeTables();
static_assert(kTables.char_of_byte[' '] == 0x120);
static_assert(kTables.char_of_byte[0xAD] == kNumChars - 1);

}  // namespace

uint32_t ByteLevelChar(uint8_t byte) { return kTables.char_of_byte[byte]; }

std::optional<std::string> ByteLevelDecode(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = CodePointAt(text, i);
    if (c.value >= kNumChars || kTables.byte_of_char[c.value] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(kTables.byte_of_char[c.value]));
    i += c.num_bytes;
  }
  return bytes;
}

}  // namespace kvs
