// Regex: the regular expressions of a tokenizer.json, with the meaning that Oniguruma (which made
// the tokenizer) gives them. The only door to PCRE2.
//
// Immutable after Compile; thread-safe.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kvserve/status.h"
#include "tokenize/byte_range.h"

namespace kvs {

class Regex {
 public:
  // kDataError when the pattern is wrong, or when it uses syntax to which Oniguruma and PCRE2 give
  // different meanings.
  static Result<Regex> Compile(std::string_view pattern);

  // Adds the matches in `range` of `text`, from left to right without overlaps; text outside of
  // the range is not seen, not even by look-around. kInvalidArgument when the pattern backtracks
  // more than the match limit allows. REQUIRES: `text` is UTF-8, `range` cuts no character.
  Result<void> FindAll(std::string_view text, ByteRange range,
                       std::vector<ByteRange>& matches) const;

 private:
  struct Compiled;
  explicit Regex(std::shared_ptr<const Compiled> code) : code_(std::move(code)) {}

  std::shared_ptr<const Compiled> code_;
};

namespace internal {
// The pattern in PCRE2's syntax. Exposed for tests.
Result<std::string> TranslateRegex(std::string_view pattern);
}  // namespace internal

}  // namespace kvs
