// A tokenizer whose tokens are bytes, so that a test can read token ids as text.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenize/tokenizer.h"
#include "tokenize/utf8.h"

namespace kvs::testing {

inline constexpr TokenId kBos{256};
inline constexpr TokenId kEos{257};

class FakeTokenizer final : public Tokenizer {
 public:
  explicit FakeTokenizer(bool adds_bos = true) : adds_bos_(adds_bos) {
    for (int byte = 0; byte < 256; ++byte) bytes_.emplace_back(1, static_cast<char>(byte));
  }

  Result<std::vector<TokenId>> Encode(std::string_view text,
                                      const EncodeOptions& options) const override {
    std::vector<TokenId> tokens;
    if (adds_bos_ && options.add_special_tokens) tokens.push_back(kBos);
    for (const char c : text) tokens.push_back({static_cast<unsigned char>(c)});
    return tokens;
  }

  std::string Decode(std::span<const TokenId> tokens, bool skip_special) const override {
    std::string text;
    Utf8Decoder decoder;
    for (const TokenId token : tokens) {
      if (!(skip_special && IsSpecial(token))) decoder.Append(TokenBytes(token), text);
    }
    decoder.Flush(text);
    return text;
  }

  std::string_view TokenBytes(TokenId token) const override {
    if (token == kBos) return "<bos>";
    if (token == kEos) return "<eos>";
    return token.value < 256 ? std::string_view(bytes_[token.value]) : std::string_view();
  }
  std::string_view TokenText(TokenId token) const override { return TokenBytes(token); }
  bool IsSpecial(TokenId token) const override { return token == kBos || token == kEos; }
  uint32_t vocab_size() const override { return 258; }

 private:
  const bool adds_bos_;
  std::vector<std::string> bytes_;
};

inline std::vector<TokenId> TokensOf(std::string_view text) {
  std::vector<TokenId> tokens;
  for (const char c : text) tokens.push_back({static_cast<unsigned char>(c)});
  return tokens;
}

}  // namespace kvs::testing
