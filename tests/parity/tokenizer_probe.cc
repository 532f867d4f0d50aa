// What tokenizer_parity.py compares: this tokenizer on many texts, through pipes.
//
//   tokenizer_probe MODEL_DIR encode | as-text | decode | skip | stream   records from standard
//   input tokenizer_probe MODEL_DIR time REPEATS                                seconds of each
//   repeat
//
// A record is a 32-bit count, in this machine's order, and as many bytes of text or 32-bit ids.
// `encode` parses special tokens, `as-text` does not; neither adds any. `decode` and `skip` turn
// ids into text, with and without special tokens; `stream` is `decode` token by token.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "kvserve/check.h"
#include "stream/detokenizer.h"
#include "tokenize/tokenizer.h"

namespace {

// The next record; false at the end of the input.
template <class Container>
bool Read(Container& record) {
  uint32_t count = 0;
  if (std::fread(&count, sizeof(count), 1, stdin) != 1) return false;
  record.resize(count);
  const size_t size = sizeof(typename Container::value_type);
  KVS_CHECK_OP(std::fread(record.data(), size, count, stdin), ==, size_t{count});
  return true;
}

template <class Container>
void Write(const Container& record) {
  const auto count = static_cast<uint32_t>(record.size());
  std::fwrite(&count, sizeof(count), 1, stdout);
  std::fwrite(record.data(), sizeof(typename Container::value_type), count, stdout);
}

std::vector<kvs::TokenId> Encode(const kvs::Tokenizer& tokenizer, std::string_view text,
                                 kvs::SpecialTokens special) {
  auto tokens = tokenizer.Encode(text, {.special = special, .add_special_tokens = false});
  KVS_CHECK(tokens.has_value());
  return *std::move(tokens);
}

std::string Stream(const kvs::Tokenizer& tokenizer, const std::vector<kvs::TokenId>& tokens) {
  kvs::Detokenizer detokenizer(tokenizer, false);
  std::string text;
  for (const kvs::TokenId token : tokens) detokenizer.Append(token, text);
  detokenizer.Flush(text);
  return text;
}

void Time(const kvs::Tokenizer& tokenizer, int repeats) {
  std::vector<std::string> texts(1);
  while (Read(texts.back())) texts.emplace_back();
  texts.pop_back();
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    size_t num_tokens = 0;
    for (const std::string& text : texts) {
      num_tokens += Encode(tokenizer, text, kvs::SpecialTokens::kParse).size();
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    std::printf("%.6f %zu\n", seconds.count(), num_tokens);
  }
}

}  // namespace

int main(int argc, char** argv) {
  KVS_CHECK_OP(argc, >=, 3);
  const auto tokenizer = kvs::Tokenizer::Load(argv[1]);
  if (!tokenizer) {
    std::fprintf(stderr, "%s\n", tokenizer.error().message().c_str());
    return 1;
  }
  const std::string_view what = argv[2];
  if (what == "time") {
    Time(**tokenizer, std::atoi(argv[3]));
  } else if (what == "encode" || what == "as-text") {
    const auto special =
        what == "encode" ? kvs::SpecialTokens::kParse : kvs::SpecialTokens::kAsText;
    for (std::string text; Read(text);) Write(Encode(**tokenizer, text, special));
  } else {
    for (std::vector<kvs::TokenId> tokens; Read(tokens);) {
      Write(what == "stream" ? Stream(**tokenizer, tokens)
                             : (*tokenizer)->Decode(tokens, what == "skip"));
    }
  }
  return 0;
}
