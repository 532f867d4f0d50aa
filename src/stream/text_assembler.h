// TextAssembler: the text of one generation while its tokens arrive. Joins the detokenizer (only
// whole characters leave it) with the stop strings (nothing that may yet become one leaves it).
//
// Append and Finish add to a string of the caller, so that one buffer serves a whole stream. The
// pieces joined are the same text however the tokens cut it. Not thread-safe: owned by the thread
// that answers the client.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kvserve/ids.h"
#include "stream/detokenizer.h"
#include "stream/stop_strings.h"
#include "tokenize/tokenizer.h"

namespace kvs {

struct TextOptions {
  bool skip_special_tokens = true;
  std::vector<std::string> stop_strings;  // valid UTF-8, none empty; bounded by the caller
  bool include_stop_string = false;       // keep the string that matched at the end of the text
  // A stop string that ends in the text of the first `min_tokens` tokens does not count.
  uint32_t min_tokens = 0;
};

class TextAssembler {
 public:
  // `tokenizer` must outlive the assembler.
  TextAssembler(const Tokenizer& tokenizer, TextOptions options);

  // Adds to `out` the text that `token` makes certain (often none). True once a stop string has
  // matched: the text is then complete, and later tokens are ignored. A stop token (eos, or one of
  // stop_token_ids) is not text: do not append it.
  bool Append(TokenId token, std::string& out);

  // After the last token: adds what was held back; an incomplete character becomes U+FFFD. Returns
  // whether a stop string has matched. Nothing may be appended afterwards.
  bool Finish(std::string& out);

  // Index in TextOptions::stop_strings of the one that matched.
  std::optional<size_t> matched_stop() const { return matched_; }

  // Characters (code points) of the text in front of the next token: read before Append, this is
  // the token's `text_offset`. A token that begins inside a character has that character's offset.
  uint64_t text_offset() const { return detokenizer_.num_chars(); }

 private:
  bool Scan(std::string& out);

  TextOptions options_;
  Detokenizer detokenizer_;
  StopStrings stop_strings_;
  std::string chars_;  // whole characters of the current token; kept for its capacity
  uint32_t num_tokens_ = 0;
  std::optional<size_t> matched_;
};

}  // namespace kvs
