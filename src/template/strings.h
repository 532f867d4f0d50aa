// Python's algorithms on strings, each byte with its origin: what methods and filters share.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "template/text.h"

namespace kvs::jinja {

Text StripText(const Text& text, const std::string* drop, bool left, bool right);
// str.replace; a negative `count` is all. TemplateError when the result passes 64 MiB.
Text ReplaceText(const Text& text, const std::string& from, const Text& to, int64_t count);
// str.split: at `separator`, or at runs of white space when it is null; at most `max_splits` when
// that is not negative.
std::vector<Text> SplitText(const Text& text, const std::string* separator, int64_t max_splits);
// str.rsplit.
std::vector<Text> SplitTextFromRight(const Text& text, const std::string* separator,
                                     int64_t max_splits);
std::vector<Text> SplitLines(const Text& text, bool keep_ends);
// `fill` is put before and behind; TemplateError when the result passes 64 MiB.
Text Padded(const Text& text, size_t num_left, size_t num_right, const Text& fill);

}  // namespace kvs::jinja
