#include "tokenize/tokenizer_file_pipeline.h"

#include <string>

#include "tokenize/utf8.h"

namespace kvs::internal {
namespace {

[[noreturn]] void RefuseType(const Field& field, const char* known) {
  field.At("type").Fail(fmt::format("'{}' is not supported (supported: {})",
                                    Field::Shortened(field.At("type").String()), known));
}

const std::string& NonEmpty(const Field& field) {
  if (field.String().empty()) field.Fail("must not be empty");
  return field.String();
}

// A pattern is {"String": literal} or {"Regex": regex}.
const std::string& LiteralPattern(const Field& pattern) {
  pattern.AllowOnly({"String"});
  return NonEmpty(pattern.At("String"));
}

std::string OneCharacter(const Field& field) {
  const std::string& text = NonEmpty(field);
  if (CodePointAt(text, 0).num_bytes != text.size()) field.Fail("must be one character");
  return text;
}

ReplaceNormalizer ReadReplace(const Field& field) {
  field.AllowOnly({"type", "pattern", "content"});
  return {LiteralPattern(field.At("pattern")), field.At("content").String()};
}

// The regex of a literal: every ASCII character that may mean something is escaped.
std::string EscapedRegex(const std::string& literal) {
  std::string regex;
  for (const char c : literal) {
    if (std::string_view("\\^$.|?*+()[]{}-#&").find(c) != std::string_view::npos) regex += '\\';
    regex += c;
  }
  return regex;
}

SplitBehavior ReadBehavior(const Field& field) {
  const std::string& name = field.String();
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  field.Fail(fmt::format(
      "expected Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous, got '{}'",
      Field::Shortened(name)));
}

SplitPreTokenizer ReadSplit(const Field& field) {
  field.AllowOnly({"type", "pattern", "behavior", "invert"});
  const Field pattern = field.At("pattern");
  pattern.AllowOnly({"String", "Regex"});
  const std::optional<Field> regex = pattern.Find("Regex");
  return {regex ? NonEmpty(*regex) : EscapedRegex(LiteralPattern(pattern)),
          ReadBehavior(field.At("behavior")), field.BoolOr("invert", false)};
}

PrependScheme ReadPrependScheme(const Field& field) {
  const std::optional<Field> scheme = field.Find("prepend_scheme");
  if (!scheme) {
    return field.BoolOr("add_prefix_space", true) ? PrependScheme::kAlways : PrependScheme::kNever;
  }
  if (scheme->String() == "never") return PrependScheme::kNever;
  if (scheme->String() == "first") return PrependScheme::kFirst;
  if (scheme->String() == "always") return PrependScheme::kAlways;
  scheme->Fail(
      fmt::format("expected never, first or always, got '{}'", Field::Shortened(scheme->String())));
}

MetaspacePreTokenizer ReadMetaspace(const Field& field) {
  field.AllowOnly(
      {"type", "replacement", "str_rep", "add_prefix_space", "prepend_scheme", "split"});
  return {OneCharacter(field.At("replacement")), ReadPrependScheme(field),
          field.BoolOr("split", true)};
}

void ReadTemplate(const Field& field, uint32_t vocab_size, PostProcessor& post_processor) {
  field.AllowOnly({"type", "single", "pair", "special_tokens"});
  std::vector<TokenId> prefix, suffix;
  bool seen_text = false;
  for (const Field& item : field.At("single").Items()) {
    item.AllowOnly({"SpecialToken", "Sequence"});
    if (const std::optional<Field> text = item.Find("Sequence")) {
      if (seen_text || text->At("id").String() != "A") item.Fail("expected Sequence A once");
      seen_text = true;
      continue;
    }
    const std::string& name = item.At("SpecialToken").At("id").String();
    const Field tokens = field.At("special_tokens").At(name.c_str());
    for (const Field& id : tokens.At("ids").Items()) {
      (seen_text ? suffix : prefix).push_back(TokenId{id.Uint(vocab_size)});
    }
  }
  if (!seen_text) field.At("single").Fail("Sequence A is missing");
  post_processor.prefix.insert(post_processor.prefix.begin(), prefix.begin(), prefix.end());
  post_processor.suffix.insert(post_processor.suffix.end(), suffix.begin(), suffix.end());
}

// One step of a decoder Sequence for text vocabularies.
void ReadDecoderStep(const Field& field, Decoder& decoder) {
  const std::string& type = field.At("type").String();
  if (type == "Replace") {
    const ReplaceNormalizer replace = ReadReplace(field);
    if (replace.content != " ") field.At("content").Fail("only a space is supported");
    if (!decoder.replaced.empty()) field.Fail("a second Replace is not supported");
    decoder.replaced = replace.pattern;
  } else if (type == "ByteFallback") {
    field.AllowOnly({"type"});
    decoder.byte_fallback = true;
  } else if (type == "Strip") {
    field.AllowOnly({"type", "content", "start", "stop"});
    const bool leading = field.At("content").String() == " " && field.At("start").Uint(2) == 1 &&
                         field.At("stop").Uint(1) == 0;
    if (!leading) field.Fail("only one leading space is supported");
    decoder.strip_leading_space = true;
  } else if (type == "Fuse") {
    field.AllowOnly({"type"});
  } else {
    RefuseType(field, "ByteLevel alone, or Replace, ByteFallback, Fuse, Strip");
  }
}

}  // namespace

void ReadNormalizers(const Field& field, std::vector<Normalizer>& normalizers) {
  const std::string& type = field.At("type").String();
  if (type == "Sequence") {
    field.AllowOnly({"type", "normalizers"});
    for (const Field& item : field.At("normalizers").Items()) ReadNormalizers(item, normalizers);
  } else if (type == "Prepend") {
    field.AllowOnly({"type", "prepend"});
    normalizers.push_back(PrependNormalizer{field.At("prepend").String()});
  } else if (type == "Replace") {
    normalizers.push_back(ReadReplace(field));
  } else {
    field.AllowOnly({"type"});
    if (type == "NFC") return normalizers.push_back(UnicodeNormalizer{UnicodeForm::kNfc});
    if (type == "NFD") return normalizers.push_back(UnicodeNormalizer{UnicodeForm::kNfd});
    if (type == "NFKC") return normalizers.push_back(UnicodeNormalizer{UnicodeForm::kNfkc});
    if (type == "NFKD") return normalizers.push_back(UnicodeNormalizer{UnicodeForm::kNfkd});
    RefuseType(field, "Sequence, Prepend, Replace, NFC, NFD, NFKC, NFKD");
  }
}

void ReadPreTokenizers(const Field& field, std::vector<PreTokenizer>& pre_tokenizers) {
  const std::string& type = field.At("type").String();
  if (type == "Sequence") {
    field.AllowOnly({"type", "pretokenizers"});
    for (const Field& item : field.At("pretokenizers").Items()) {
      ReadPreTokenizers(item, pre_tokenizers);
    }
  } else if (type == "Split") {
    pre_tokenizers.emplace_back(ReadSplit(field));
  } else if (type == "ByteLevel") {
    field.AllowOnly({"type", "add_prefix_space", "trim_offsets", "use_regex"});
    pre_tokenizers.emplace_back(ByteLevelPreTokenizer{field.BoolOr("add_prefix_space", true),
                                                      field.BoolOr("use_regex", true)});
  } else if (type == "Digits") {
    field.AllowOnly({"type", "individual_digits"});
    const bool individual = field.BoolOr("individual_digits", false);
    pre_tokenizers.emplace_back(SplitPreTokenizer{
        "\\p{N}", individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous, false});
  } else if (type == "Metaspace") {
    pre_tokenizers.emplace_back(ReadMetaspace(field));
  } else {
    RefuseType(field, "Sequence, Split, ByteLevel, Digits, Metaspace");
  }
}

void ReadPostProcessor(const Field& field, uint32_t vocab_size, PostProcessor& post_processor) {
  const std::string& type = field.At("type").String();
  if (type == "Sequence") {
    field.AllowOnly({"type", "processors"});
    for (const Field& item : field.At("processors").Items()) {
      ReadPostProcessor(item, vocab_size, post_processor);
    }
  } else if (type == "TemplateProcessing") {
    ReadTemplate(field, vocab_size, post_processor);
  } else if (type == "ByteLevel") {  // moves offsets; adds no token
    field.AllowOnly({"type", "add_prefix_space", "trim_offsets", "use_regex"});
  } else {
    RefuseType(field, "Sequence, TemplateProcessing, ByteLevel");
  }
}

Decoder ReadDecoder(const Field& field) {
  Decoder decoder;
  const std::string& type = field.At("type").String();
  if (type == "ByteLevel") {
    field.AllowOnly({"type", "add_prefix_space", "trim_offsets", "use_regex"});
    decoder.byte_level = true;
  } else if (type == "Sequence") {
    field.AllowOnly({"type", "decoders"});
    const std::vector<Field> steps = field.At("decoders").Items();
    if (steps.size() == 1) return ReadDecoder(steps[0]);
    for (const Field& step : steps) ReadDecoderStep(step, decoder);
  } else if (type == "Metaspace") {
    const MetaspacePreTokenizer metaspace = ReadMetaspace(field);
    decoder.replaced = metaspace.replacement;
    decoder.strip_leading_space = metaspace.prepend != PrependScheme::kNever;
  } else {
    ReadDecoderStep(field, decoder);
  }
  return decoder;
}

}  // namespace kvs::internal
