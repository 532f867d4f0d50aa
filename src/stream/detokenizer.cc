#include "stream/detokenizer.h"

namespace kvs {

Detokenizer::Detokenizer(const Tokenizer& tokenizer, bool skip_special_tokens)
    : tokenizer_(tokenizer), skip_special_tokens_(skip_special_tokens) {}

void Detokenizer::Append(TokenId token, std::string& out) {
  if (skip_special_tokens_ && tokenizer_.IsSpecial(token)) return;
  decoder_.Append(tokenizer_.TokenBytes(token), out);
}

void Detokenizer::Flush(std::string& out) { decoder_.Flush(out); }

}  // namespace kvs
