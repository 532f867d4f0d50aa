#include "tokenize/tokenizer.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "tokenize/added_tokens.h"
#include "tokenize/bpe.h"
#include "tokenize/byte_level.h"
#include "tokenize/normalize.h"
#include "tokenize/pretokenize.h"
#include "tokenize/tokenizer_file.h"
#include "tokenize/utf8.h"

namespace kvs {
namespace {

// What the decoder needs to know of one id.
struct TokenEntry {
  std::string text;   // as the file spells it
  std::string bytes;  // what it stands for
  bool special = false;
};

// The byte that a token "<0xNN>" stands for.
std::optional<char> FallbackByte(const std::string& text) {
  if (text.size() != 6 || text.compare(0, 3, "<0x") != 0 || text[5] != '>') return std::nullopt;
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  const int high = digit(text[3]);
  const int low = digit(text[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<char>(high * 16 + low);
}

std::string BytesOf(const std::string& text, const Decoder& decoder) {
  if (decoder.byte_level) {
    std::optional<std::string> bytes = ByteLevelDecode(text);
    return bytes ? *std::move(bytes) : text;
  }
  if (decoder.byte_fallback) {
    if (const std::optional<char> byte = FallbackByte(text)) return std::string(1, *byte);
  }
  if (decoder.replaced.empty()) return text;
  return Normalize({ReplaceNormalizer{decoder.replaced, " "}}, text);
}

std::vector<TokenEntry> EntriesOf(const TokenizerSpec& spec) {
  std::vector<TokenEntry> entries(spec.model.vocab.size());
  for (size_t id = 0; id < spec.model.vocab.size(); ++id) {
    if (spec.model.vocab[id]) entries[id].text = *spec.model.vocab[id];
  }
  for (const AddedToken& token : spec.added_tokens) {
    if (token.id.value >= entries.size()) entries.resize(token.id.value + 1);
    entries[token.id.value].text = token.content;
    entries[token.id.value].special = token.special;
  }
  for (TokenEntry& entry : entries) entry.bytes = BytesOf(entry.text, spec.decoder);
  return entries;
}

// Added tokens that are looked for in text of which some is literal: as it is written, since ranges
// of it do not outlast normalization. Special ones, and those looked for before it anyway.
AddedTokens SelectMarked(const TokenizerSpec& spec) {
  std::vector<AddedToken> selected;
  for (const AddedToken& token : spec.added_tokens) {
    if ((token.special || !token.normalized) && !token.content.empty()) selected.push_back(token);
  }
  return AddedTokens(std::move(selected));
}

// Added tokens that are looked for before (false) or after (true) the text is normalized; the
// latter are themselves normalized.
AddedTokens SelectAdded(const TokenizerSpec& spec, bool normalized) {
  std::vector<AddedToken> selected;
  for (AddedToken token : spec.added_tokens) {
    if (token.normalized != normalized) continue;
    if (normalized) token.content = Normalize(spec.normalizers, std::move(token.content));
    if (!token.content.empty()) selected.push_back(std::move(token));
  }
  return AddedTokens(std::move(selected));
}

class BpeTokenizer final : public Tokenizer {
 public:
  BpeTokenizer(TokenizerSpec spec, PreTokenizers pre_tokenizers)
      : entries_(EntriesOf(spec)),
        added_before_(SelectAdded(spec, false)),
        added_marked_(SelectMarked(spec)),
        normalizers_(spec.normalizers),
        added_after_(SelectAdded(spec, true)),
        pre_tokenizers_(std::move(pre_tokenizers)),
        bpe_(spec.model),
        post_processor_(std::move(spec.post_processor)),
        strip_leading_space_(spec.decoder.strip_leading_space) {}

  Result<std::vector<TokenId>> Encode(std::string_view text,
                                      const EncodeOptions& options) const override {
    if (const std::optional<size_t> offset = FindInvalidUtf8(text)) {
      return Error(Code::kInvalidArgument,
                   fmt::format("the text is not valid UTF-8 at byte {}", *offset));
    }
    const bool marked = options.special == SpecialTokens::kParse && !options.literal.empty();
    const bool parse_special = options.special == SpecialTokens::kParse && !marked;
    Encoding encoding;
    if (options.add_special_tokens) encoding.Add(post_processor_.prefix);
    std::vector<Segment> segments;
    if (marked) {
      added_marked_.Split(text, /*parse_special=*/true, segments, options.literal);
    } else {
      added_before_.Split(text, parse_special, segments);
    }
    for (const Segment& segment : segments) {
      if (segment.token) {
        encoding.tokens.push_back(*segment.token);
        continue;
      }
      const std::string_view part =
          text.substr(segment.range.begin, segment.range.end - segment.range.begin);
      KVS_RETURN_IF_ERROR(
          EncodeNormalized(part, segment.range.begin == 0, parse_special, encoding));
    }
    if (options.add_special_tokens) encoding.Add(post_processor_.suffix);
    return std::move(encoding.tokens);
  }

  std::string Decode(std::span<const TokenId> tokens, bool skip_special) const override {
    Utf8Decoder decoder;
    std::string text;
    for (const TokenId token : tokens) {
      if (skip_special && IsSpecial(token)) continue;
      decoder.Append(TokenBytes(token), text);
    }
    decoder.Flush(text);
    if (strip_leading_space_ && !text.empty() && text[0] == ' ') text.erase(0, 1);
    return text;
  }

  std::string_view TokenBytes(TokenId token) const override {
    return token.value < entries_.size() ? entries_[token.value].bytes : std::string_view();
  }
  std::string_view TokenText(TokenId token) const override {
    return token.value < entries_.size() ? entries_[token.value].text : std::string_view();
  }
  bool IsSpecial(TokenId token) const override {
    return token.value < entries_.size() && entries_[token.value].special;
  }
  uint32_t vocab_size() const override { return static_cast<uint32_t>(entries_.size()); }

 private:
  // The tokens so far, and memory that is reused from piece to piece.
  struct Encoding {
    std::vector<TokenId> tokens;
    std::vector<Segment> segments;
    Pieces pieces;
    Bpe::Scratch bpe;

    void Add(const std::vector<TokenId>& more) {
      tokens.insert(tokens.end(), more.begin(), more.end());
    }
  };

  Result<void> EncodeNormalized(std::string_view part, bool at_start, bool parse_special,
                                Encoding& encoding) const {
    const std::string normalized = Normalize(normalizers_, std::string(part));
    const std::string_view text = normalized;
    encoding.segments.clear();
    added_after_.Split(text, parse_special, encoding.segments);
    for (const Segment& segment : encoding.segments) {
      if (segment.token) {
        encoding.tokens.push_back(*segment.token);
        continue;
      }
      const ByteRange range = segment.range;
      encoding.pieces.Reset(text.substr(range.begin, range.end - range.begin),
                            at_start && range.begin == 0);
      KVS_RETURN_IF_ERROR(pre_tokenizers_.Run(encoding.pieces));
      const std::string_view rewritten = encoding.pieces.text;
      for (const ByteRange& piece : encoding.pieces.ranges) {
        bpe_.Encode(rewritten.substr(piece.begin, piece.end - piece.begin), encoding.bpe,
                    encoding.tokens);
      }
    }
    return {};
  }

  const std::vector<TokenEntry> entries_;  // by id
  const AddedTokens added_before_;
  const AddedTokens added_marked_;
  const std::vector<Normalizer> normalizers_;
  const AddedTokens added_after_;
  const PreTokenizers pre_tokenizers_;
  const Bpe bpe_;
  const PostProcessor post_processor_;
  const bool strip_leading_space_;
};

}  // namespace

Result<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::filesystem::path& model_dir) {
  Result<TokenizerSpec> spec = ReadTokenizerFile(model_dir);
  if (!spec) return tl::unexpected(std::move(spec).error());
  Result<PreTokenizers> pre_tokenizers = PreTokenizers::Make(spec->pre_tokenizers);
  if (!pre_tokenizers) {
    return tl::unexpected(
        pre_tokenizers.error().WithContext((model_dir / "tokenizer.json").string()));
  }
  return std::make_unique<BpeTokenizer>(*std::move(spec), *std::move(pre_tokenizers));
}

}  // namespace kvs
