// What a tokenizer.json says, once it has been checked: every id is in range and exists, every part
// is one this tokenizer can do. The order of the members is the order of an encoding.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "kvserve/ids.h"

namespace kvs {

// A token that is looked for in the text before the model sees it.
struct AddedToken {
  TokenId id{};
  std::string content;       // never empty
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the white space in front of it along
  bool rstrip = false;       // and behind it
  bool normalized = false;   // looked for in normalized text
  bool special = false;
};

// Normalizers: text to text.
enum class UnicodeForm : uint8_t { kNfc, kNfd, kNfkc, kNfkd };
struct UnicodeNormalizer {
  UnicodeForm form = UnicodeForm::kNfc;
};
struct PrependNormalizer {
  std::string prefix;
};
struct ReplaceNormalizer {
  std::string pattern;  // a literal, not empty
  std::string content;
};
using Normalizer = std::variant<UnicodeNormalizer, PrependNormalizer, ReplaceNormalizer>;

// What becomes of the matches of a Split (and, with `invert`, of the gaps between them).
enum class SplitBehavior : uint8_t {
  kRemoved,
  kIsolated,
  kMergedWithPrevious,
  kMergedWithNext,
  kContiguous,
};

// Pre-tokenizers: text to the pieces that are merged on their own.
struct SplitPreTokenizer {
  std::string regex;  // in Oniguruma's syntax, as the file has it
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;
};
// Splits with GPT-2's regex if asked; the bytes of the text are the units of the merges.
struct ByteLevelPreTokenizer {
  bool add_prefix_space = false;
  bool use_regex = true;
};
enum class PrependScheme : uint8_t { kNever, kFirst, kAlways };
// Spaces become `replacement`; splits in front of each if asked.
struct MetaspacePreTokenizer {
  std::string replacement;  // one character
  PrependScheme prepend = PrependScheme::kAlways;
  bool split = true;
};
using PreTokenizer = std::variant<SplitPreTokenizer, ByteLevelPreTokenizer, MetaspacePreTokenizer>;

struct BpeMerge {
  TokenId left{};
  TokenId right{};
  TokenId merged{};
};

struct BpeModel {
  std::vector<std::optional<std::string>> vocab;  // by id: the spelling
  std::vector<BpeMerge> merges;                   // the first is done first
  bool byte_level = false;     // spelled as in byte_level.h; otherwise the units are characters
  bool ignore_merges = false;  // a piece that is a token is that token, whatever the merges say
  // For characters without a token: tokens "<0x00>" ... "<0xFF>", if the file has them all.
  bool byte_fallback = false;
  std::optional<TokenId> unknown;
  bool fuse_unknown = false;
};

// The tokens put around every text.
struct PostProcessor {
  std::vector<TokenId> prefix;
  std::vector<TokenId> suffix;
};

// Tokens back to bytes. A byte-level file spells bytes; the others are text with a few changes.
struct Decoder {
  bool byte_level = false;
  bool byte_fallback = false;  // "<0xNN>" is that byte
  std::string replaced;        // becomes a space; empty: nothing does
  // A space in front of the whole text is dropped (it was put there when encoding).
  bool strip_leading_space = false;
};

struct TokenizerSpec {
  std::vector<AddedToken> added_tokens;  // no two with the same content or id
  std::vector<Normalizer> normalizers;
  std::vector<PreTokenizer> pre_tokenizers;
  BpeModel model;
  PostProcessor post_processor;
  Decoder decoder;
};

}  // namespace kvs
