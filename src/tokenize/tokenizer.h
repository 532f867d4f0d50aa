// Tokenizer: text to token ids and back, from a Hugging Face tokenizer.json.
//
// Immutable after Load; every method is thread-safe. Encode takes time linear in the text.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvserve/ids.h"
#include "kvserve/status.h"
#include "tokenize/byte_range.h"

namespace kvs {

// Whether text that spells a special token ("<|eot_id|>") becomes that token. /v1/completions takes
// prompts as Transformers and vLLM do, with kParse; chat contents are encoded with kAsText.
enum class SpecialTokens : uint8_t { kParse, kAsText };

struct EncodeOptions {
  SpecialTokens special = SpecialTokens::kParse;
  bool add_special_tokens = true;  // run the post-processor (a BOS, where the tokenizer has one)
  // With kParse: where special tokens are text all the same, as what a user wrote into a chat
  // template's text is. A token counts as such unless all of it lies outside. Sorted, disjoint.
  std::span<const ByteRange> literal = {};
};

class Tokenizer {
 public:
  // Reads `model_dir`/tokenizer.json (and tokenizer_config.json where present). kNotFound or
  // kDataError with the offending field.
  static Result<std::unique_ptr<Tokenizer>> Load(const std::filesystem::path& model_dir);
  virtual ~Tokenizer() = default;

  // kInvalidArgument when `text` is not UTF-8, naming the byte offset.
  virtual Result<std::vector<TokenId>> Encode(std::string_view text,
                                              const EncodeOptions& options = {}) const = 0;
  // The whole text; bytes that are not UTF-8 become U+FFFD.
  virtual std::string Decode(std::span<const TokenId> tokens, bool skip_special) const = 0;
  // The bytes one token stands for (may be part of a character); empty for an id without a token.
  // Valid as long as the tokenizer.
  virtual std::string_view TokenBytes(TokenId token) const = 0;
  // The token as tokenizer.json spells it ("Ġthe").
  virtual std::string_view TokenText(TokenId token) const = 0;
  virtual bool IsSpecial(TokenId token) const = 0;
  virtual uint32_t vocab_size() const = 0;  // largest id + 1
};

}  // namespace kvs
