// A tokenizer whose tokens are given as bytes: token i stands for bytes[i].
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tokenize/tokenizer.h"
#include "tokenize/utf8.h"

namespace kvs {

class FakeTokenizer final : public Tokenizer {
 public:
  // Tokens from `first_special` on are special.
  explicit FakeTokenizer(std::vector<std::string> bytes, uint32_t first_special = UINT32_MAX)
      : bytes_(std::move(bytes)), first_special_(first_special) {}

  Result<std::vector<TokenId>> Encode(std::string_view, const EncodeOptions&) const override {
    return Error(Code::kInternal, "the fake tokenizer cannot encode");
  }
  std::string Decode(std::span<const TokenId> tokens, bool skip_special) const override {
    Utf8Decoder decoder;
    std::string text;
    for (const TokenId token : tokens) {
      if (!(skip_special && IsSpecial(token))) decoder.Append(TokenBytes(token), text);
    }
    decoder.Flush(text);
    return text;
  }
  std::string_view TokenBytes(TokenId token) const override { return bytes_.at(token.value); }
  std::string_view TokenText(TokenId token) const override { return bytes_.at(token.value); }
  bool IsSpecial(TokenId token) const override { return token.value >= first_special_; }
  uint32_t vocab_size() const override { return static_cast<uint32_t>(bytes_.size()); }

 private:
  std::vector<std::string> bytes_;
  uint32_t first_special_;
};

// One token for each of the 256 bytes.
inline FakeTokenizer ByteTokenizer() {
  std::vector<std::string> bytes;
  for (int byte = 0; byte < 256; ++byte) bytes.emplace_back(1, static_cast<char>(byte));
  return FakeTokenizer(std::move(bytes));
}

}  // namespace kvs
