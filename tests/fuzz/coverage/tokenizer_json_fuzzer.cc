// The input is a tokenizer.json, optionally followed by a zero byte and a text. Encodes the text,
// or the JSON itself when there is none, and decodes what came out.
#include <algorithm>
#include <string_view>

#include "kvserve/check.h"
#include "scratch_dir.h"
#include "tokenize/tokenizer.h"

namespace {

void EncodeAndDecode(const kvs::Tokenizer& tokenizer, std::string_view text,
                     kvs::SpecialTokens special) {
  const auto tokens = tokenizer.Encode(text, {.special = special});
  if (!tokens) {
    KVS_CHECK(!tokens.error().message().empty());
    return;
  }
  for (const kvs::TokenId token : *tokens) {
    KVS_CHECK_OP(token.value, <, tokenizer.vocab_size());
    // What encoding gives is a token of the file.
    KVS_CHECK(!tokenizer.TokenText(token).empty());
  }
  tokenizer.Decode(*tokens, true);
  tokenizer.Decode(*tokens, false);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const kvs::ScratchDir scratch;
  const uint8_t* end = data + size;
  const uint8_t* json_end = std::find(data, end, uint8_t{0});
  scratch.Write("tokenizer.json", data, static_cast<size_t>(json_end - data));
  const auto tokenizer = kvs::Tokenizer::Load(scratch.path());
  if (!tokenizer) {
    KVS_CHECK(!tokenizer.error().message().empty());
    return 0;
  }
  const uint8_t* text = json_end == end ? data : json_end + 1;
  const std::string_view view(reinterpret_cast<const char*>(text), static_cast<size_t>(end - text));
  EncodeAndDecode(**tokenizer, view, kvs::SpecialTokens::kParse);
  EncodeAndDecode(**tokenizer, view, kvs::SpecialTokens::kAsText);
  return 0;
}
