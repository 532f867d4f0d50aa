// The spelling of bytes in byte-level vocabularies (GPT-2): every byte stands as one printable
// character, so that the vocabulary is text. Printable Latin-1 bytes stand for themselves, the
// other 68 as U+0100 onward ("Ġ" is the space).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace kvs {

// The character that stands for `byte`.
uint32_t ByteLevelChar(uint8_t byte);

// The bytes that `text` (UTF-8) spells; nullopt when a character stands for no byte.
std::optional<std::string> ByteLevelDecode(std::string_view text);

}  // namespace kvs
