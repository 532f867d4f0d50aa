// Unicode properties and normal forms. The only door to utf8proc.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tokenize/tokenizer_spec.h"

namespace kvs {

// White_Space, 25 code points.
bool IsWhiteSpace(uint32_t code_point);

// What \w means to Unicode (UTS 18, annex C): letters, marks, decimal digits, connectors.
bool IsWordCharacter(uint32_t code_point);

// `text` in the normal form, in O(n log n) time. REQUIRES: `text` is UTF-8.
std::string NormalizeUnicode(std::string_view text, UnicodeForm form);

}  // namespace kvs
