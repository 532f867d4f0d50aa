// Detokenizer: tokens to text, one token at a time, in whole characters only.
//
// A token may hold a part of a character; its bytes wait until the character is complete, or until
// no byte can complete it any more, in which case each maximal invalid part becomes U+FFFD (the
// practice of Unicode 15, section 3.9, table 3-8). The result is the same text that decoding all
// bytes at once gives. Not thread-safe.
#pragma once

#include <cstdint>
#include <string>

#include "kvserve/ids.h"
#include "tokenize/tokenizer.h"
#include "tokenize/utf8.h"

namespace kvs {

class Detokenizer {
 public:
  // `tokenizer` must outlive the detokenizer.
  Detokenizer(const Tokenizer& tokenizer, bool skip_special_tokens);

  // Adds the characters that `token` completes to `out`.
  void Append(TokenId token, std::string& out);
  // Ends the text: an incomplete character becomes U+FFFD.
  void Flush(std::string& out);

  // Characters (code points) added so far.
  uint64_t num_chars() const { return decoder_.num_chars(); }

 private:
  const Tokenizer& tokenizer_;
  const bool skip_special_tokens_;
  Utf8Decoder decoder_;
};

}  // namespace kvs
