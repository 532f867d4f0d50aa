// Writing JSON: what every answer is made of.
#pragma once

#include <string>
#include <string_view>

namespace kvs {

// Adds `text` in quotes, escaped. Characters beyond ASCII are written as they are; a byte that is
// not UTF-8 is replaced by U+FFFD, so that the result is always JSON.
void AppendJsonString(std::string_view text, std::string& out);
// The same without the quotes, for text that is known to be UTF-8.
void AppendEscaped(std::string_view utf8, std::string& out);

}  // namespace kvs
