#include "stream/text_assembler.h"

#include <utility>

namespace kvs {

TextAssembler::TextAssembler(const Tokenizer& tokenizer, TextOptions options)
    : options_(std::move(options)),
      detokenizer_(tokenizer, options_.skip_special_tokens),
      stop_strings_(options_.stop_strings) {}

bool TextAssembler::Append(TokenId token, std::string& out) {
  if (matched_) return true;
  ++num_tokens_;
  if (stop_strings_.empty()) {
    detokenizer_.Append(token, out);
    return false;
  }
  chars_.clear();
  detokenizer_.Append(token, chars_);
  return Scan(out);
}

bool TextAssembler::Finish(std::string& out) {
  if (matched_) return true;
  chars_.clear();
  detokenizer_.Flush(chars_);
  if (Scan(out)) return true;
  stop_strings_.Flush(out);
  return false;
}

bool TextAssembler::Scan(std::string& out) {
  const bool may_match = num_tokens_ > options_.min_tokens;
  const auto match = stop_strings_.Append(chars_, may_match, out);
  if (!match) return false;
  matched_ = match->index;
  if (options_.include_stop_string) out += options_.stop_strings[match->index];
  return true;
}

}  // namespace kvs
