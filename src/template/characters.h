// Characters as Python's str sees them: code points of a valid UTF-8 text, their classes and cases.
// This library's door to utf8proc (Unicode 15; cases one to one, but for the German sharp s).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "template/text.h"

namespace kvs::jinja {

bool IsSpace(uint32_t code_point);      // str.isspace, and what strip() strips
bool IsLineBreak(uint32_t code_point);  // what splitlines() splits at
bool IsPrintable(uint32_t code_point);  // what repr() leaves as it is
bool IsLetter(uint32_t code_point);
bool IsDigit(uint32_t code_point);
bool IsUpper(uint32_t code_point);
bool IsLower(uint32_t code_point);

enum class Case : uint8_t { kUpper, kLower, kTitle, kSwapped };
void AppendInCase(uint32_t code_point, Case wanted, std::string& out);
// Each byte keeps its origin.
Text ToUpper(const Text& text);
Text ToLower(const Text& text);
Text Capitalized(const Text& text);  // the first character upper, the others lower
// Words begin after a character that is not cased: str.title().
Text TitleCased(const Text& text);
Text SwapCased(const Text& text);

size_t NumChars(std::string_view utf8);
// Byte offset of the character `index`; the size of the text when there are fewer.
size_t OffsetOf(std::string_view utf8, size_t index);
std::vector<uint32_t> CodePoints(std::string_view utf8);

// Byte span of `text` without the characters at its ends that `drop` names; white space when it is
// null.
ByteSpan Stripped(std::string_view text, const std::string* drop, bool left, bool right);

}  // namespace kvs::jinja
