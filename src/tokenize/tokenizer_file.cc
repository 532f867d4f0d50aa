#include "tokenize/tokenizer_file.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "tokenize/byte_level.h"
#include "tokenize/tokenizer_file_field.h"
#include "tokenize/tokenizer_file_pipeline.h"

namespace kvs {
namespace {

using internal::DataError;
using internal::Field;
using nlohmann::json;

// The largest vocabularies in use have a quarter of a million tokens and files of 40 MB.
constexpr uint32_t kMaxVocabSize = 1u << 21;
constexpr uint64_t kMaxFileBytes = uint64_t{128} << 20;
constexpr uint32_t kMaxDepth = 64;

using IdOfText = std::unordered_map<std::string_view, uint32_t>;

Result<std::string> ReadFile(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    return Error(Code::kNotFound, fmt::format("{}: no such file", path.string()));
  }
  const uint64_t num_bytes = std::filesystem::file_size(path, error);
  if (error) return Error(Code::kOsError, fmt::format("{}: {}", path.string(), error.message()));
  if (num_bytes > kMaxFileBytes) {
    return Error(Code::kDataError, fmt::format("{}: {} bytes, at most {} are allowed",
                                               path.string(), num_bytes, kMaxFileBytes));
  }
  std::string text(num_bytes, '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file.read(text.data(), static_cast<std::streamsize>(num_bytes))) {
    return Error(Code::kOsError, fmt::format("{}: cannot be read", path.string()));
  }
  return text;
}

// Nesting costs the JSON library far more memory than it costs the file, so it is bounded first.
void CheckDepth(std::string_view text) {
  uint32_t depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxDepth) {
        throw DataError{fmt::format("nested deeper than {} at byte {}", kMaxDepth, i)};
      }
    } else if ((c == ']' || c == '}') && depth > 0) {
      --depth;
    }
  }
}

json ParseJson(std::string_view text) {
  CheckDepth(text);
  return json::parse(text);
}

// Runs `read` and turns what it throws into a Status that begins with the file's name.
template <class Read>
Result<void> AtTheDoor(const std::filesystem::path& path, Read read) {
  const auto data_error = [&](std::string_view what) {
    return Error(Code::kDataError, fmt::format("{}: {}", path.string(), what));
  };
  try {
    read();
    return {};
  } catch (const DataError& error) {
    return data_error(error.message);
  } catch (const json::exception& error) {
    return data_error(error.what());
  } catch (const std::bad_alloc&) {
    return Error(Code::kOsError, fmt::format("{}: out of memory", path.string()));
  }
}

// Fills model.vocab and returns the way back, which borrows the keys of the document.
IdOfText ReadVocab(const Field& field, BpeModel& model) {
  field.Expect(field.json().is_object(), "an object");
  IdOfText ids;
  ids.reserve(field.json().size());
  uint32_t vocab_size = 0;
  const auto& members = field.json().get_ref<const json::object_t&>();
  for (const auto& [text, value] : members) {
    if (!value.is_number_unsigned() || value.get<uint64_t>() >= kMaxVocabSize) {
      Field(value, fmt::format("{}['{}']", field.path(), Field::Shortened(text)))
          .Uint(kMaxVocabSize);
    }
    ids.emplace(text, value.get<uint32_t>());
    vocab_size = std::max(vocab_size, value.get<uint32_t>() + 1);
  }
  model.vocab.resize(vocab_size);
  for (const auto& [text, id] : ids) {
    if (model.vocab[id]) {
      field.Fail(fmt::format("id {} is given to '{}' and to '{}'", id,
                             Field::Shortened(*model.vocab[id]), Field::Shortened(text)));
    }
    model.vocab[id] = std::string(text);
  }
  return ids;
}

// A merge is ["left", "right"] or, in older files, "left right".
std::pair<std::string_view, std::string_view> MergeParts(const json& item) {
  if (item.is_array() && item.size() == 2 && item[0].is_string() && item[1].is_string()) {
    return {item[0].get_ref<const std::string&>(), item[1].get_ref<const std::string&>()};
  }
  if (item.is_string()) {
    const std::string_view text = item.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space != std::string_view::npos && text.find(' ', space + 1) == std::string_view::npos) {
      return {text.substr(0, space), text.substr(space + 1)};
    }
  }
  return {};
}

void ReadMerges(const Field& field, const IdOfText& ids, BpeModel& model) {
  field.Expect(field.json().is_array(), "an array");
  model.merges.reserve(field.json().size());
  std::string merged;
  for (const json& item : field.json()) {
    const size_t index = model.merges.size();
    const auto [left, right] = MergeParts(item);
    if (left.empty() || right.empty()) {
      Field(item, fmt::format("{}[{}]", field.path(), index))
          .Expect(false, "two tokens, as [\"left\", \"right\"] or \"left right\"");
    }
    const auto id_of = [&](std::string_view text) {
      const auto found = ids.find(text);
      if (found == ids.end()) {
        field.Fail(
            fmt::format("merge {}: '{}' is not in the vocabulary", index, Field::Shortened(text)));
      }
      return TokenId{found->second};
    };
    merged.assign(left).append(right);
    model.merges.push_back({id_of(left), id_of(right), id_of(merged)});
  }
}

void RefuseAffix(const Field& field, const char* key) {
  const std::optional<Field> affix = field.Find(key);
  if (affix && !affix->String().empty()) affix->Fail("is not supported");
}

void ReadModel(const Field& field, BpeModel& model) {
  field.AllowOnly({"type", "dropout", "unk_token", "continuing_subword_prefix",
                   "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges", "vocab",
                   "merges"});
  const std::optional<Field> type = field.Find("type");
  if (type && type->String() != "BPE") {
    type->Fail(
        fmt::format("'{}' is not supported (supported: BPE)", Field::Shortened(type->String())));
  }
  const std::optional<Field> dropout = field.Find("dropout");
  if (dropout && !(dropout->json().is_number() && dropout->json().get<double>() == 0.0)) {
    dropout->Fail("is not supported: it makes encodings random");
  }
  RefuseAffix(field, "continuing_subword_prefix");
  RefuseAffix(field, "end_of_word_suffix");
  model.ignore_merges = field.BoolOr("ignore_merges", false);
  model.byte_fallback = field.BoolOr("byte_fallback", false);
  model.fuse_unknown = field.BoolOr("fuse_unk", false);
  const IdOfText ids = ReadVocab(field.At("vocab"), model);
  ReadMerges(field.At("merges"), ids, model);
  if (const std::optional<Field> unknown = field.Find("unk_token")) {
    const auto found = ids.find(unknown->String());
    if (found == ids.end()) unknown->Fail("is not in the vocabulary");
    model.unknown = TokenId{found->second};
  }
}

AddedToken ReadAddedToken(const Field& field, uint32_t id) {
  field.AllowOnly(
      {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special", "__type"});
  AddedToken token;
  token.id = TokenId{id};
  token.content = field.At("content").String();
  if (token.content.empty()) field.At("content").Fail("must not be empty");
  token.single_word = field.BoolOr("single_word", false);
  token.lstrip = field.BoolOr("lstrip", false);
  token.rstrip = field.BoolOr("rstrip", false);
  token.special = field.BoolOr("special", false);
  token.normalized = field.BoolOr("normalized", !token.special);
  return token;
}

// Added tokens as they come, checked against the vocabulary and each other.
class AddedTokenList {
 public:
  explicit AddedTokenList(TokenizerSpec& spec) : spec_(spec) {
    for (uint32_t id = 0; id < spec.model.vocab.size(); ++id) {
      if (spec.model.vocab[id]) vocab_.emplace(*spec.model.vocab[id], id);
    }
    for (const AddedToken& token : spec.added_tokens) {
      id_of_content_.emplace(token.content, token.id.value);
      ids_.insert(token.id.value);
    }
  }

  bool Contains(const std::string& content) const { return id_of_content_.count(content) > 0; }

  // Whether `id` is a token, added or of the model.
  bool HasToken(uint32_t id) const {
    return ids_.count(id) > 0 || (id < spec_.model.vocab.size() && spec_.model.vocab[id]);
  }

  void Add(const Field& field, AddedToken token) {
    const uint32_t id = token.id.value;
    const auto in_vocab = vocab_.find(token.content);
    if (in_vocab != vocab_.end() && in_vocab->second != id) {
      field.Fail(fmt::format("'{}' has id {} here and id {} in the vocabulary",
                             Field::Shortened(token.content), id, in_vocab->second));
    }
    const bool taken = id < spec_.model.vocab.size() && spec_.model.vocab[id] &&
                       *spec_.model.vocab[id] != token.content;
    if (taken || !ids_.insert(id).second) {
      field.Fail(fmt::format("id {} of '{}' belongs to another token", id,
                             Field::Shortened(token.content)));
    }
    if (!id_of_content_.emplace(token.content, id).second) {
      field.Fail(fmt::format("'{}' is listed twice", Field::Shortened(token.content)));
    }
    spec_.added_tokens.push_back(std::move(token));
  }

 private:
  TokenizerSpec& spec_;
  IdOfText vocab_;
  std::unordered_map<std::string, uint32_t> id_of_content_;
  std::unordered_set<uint32_t> ids_;
};

// A byte-level vocabulary must have a token for every byte that UTF-8 text can hold; otherwise
// text would vanish.
void CheckByteTokens(const Field& model_field, const BpeModel& model) {
  std::array<bool, 256> present{};
  for (const auto& text : model.vocab) {
    if (!text) continue;
    const std::optional<std::string> bytes = ByteLevelDecode(*text);
    if (bytes && bytes->size() == 1) present[static_cast<unsigned char>((*bytes)[0])] = true;
  }
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool in_utf8 = byte < 0xC0 || (byte > 0xC1 && byte < 0xF5);
    if (in_utf8 && !present[byte]) {
      model_field.At("vocab").Fail(fmt::format("no token stands for byte 0x{:02X}", byte));
    }
  }
}

// Bytes have to be spelled the same way by the pre-tokenizer that makes them and the decoder.
void CheckByteLevel(const Field& root, TokenizerSpec& spec) {
  const std::vector<PreTokenizer>& steps = spec.pre_tokenizers;
  for (size_t i = 0; i < steps.size(); ++i) {
    if (!std::holds_alternative<ByteLevelPreTokenizer>(steps[i])) continue;
    if (i + 1 < steps.size()) root.At("pre_tokenizer").Fail("ByteLevel must be the last step");
    spec.model.byte_level = true;
  }
  if (spec.model.byte_level != spec.decoder.byte_level) {
    root.Fail("pre_tokenizer and decoder must both be ByteLevel or neither");
  }
  if (!spec.model.byte_level) return;
  if (spec.model.byte_fallback) root.At("model").Fail("byte_fallback needs no ByteLevel");
  CheckByteTokens(root.At("model"), spec.model);
}

void ReadTokenizerJson(const json& document, TokenizerSpec& spec) {
  const Field root(document, "tokenizer");
  root.AllowOnly({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
                  "post_processor", "decoder", "model"});
  ReadModel(root.At("model"), spec.model);

  AddedTokenList added(spec);
  uint32_t vocab_size = static_cast<uint32_t>(spec.model.vocab.size());
  if (const std::optional<Field> tokens = root.Find("added_tokens")) {
    for (const Field& field : tokens->Items()) {
      const uint32_t id = field.At("id").Uint(kMaxVocabSize);
      added.Add(field, ReadAddedToken(field, id));
      vocab_size = std::max(vocab_size, id + 1);
    }
  }
  if (const auto field = root.Find("normalizer")) ReadNormalizers(*field, spec.normalizers);
  if (const auto field = root.Find("pre_tokenizer")) ReadPreTokenizers(*field, spec.pre_tokenizers);
  if (const auto field = root.Find("post_processor")) {
    ReadPostProcessor(*field, vocab_size, spec.post_processor);
  }
  for (const auto* ids : {&spec.post_processor.prefix, &spec.post_processor.suffix}) {
    for (const TokenId id : *ids) {
      if (!added.HasToken(id.value)) {
        root.At("post_processor").Fail(fmt::format("id {} is no token", id.value));
      }
    }
  }
  spec.decoder = ReadDecoder(root.At("decoder"));
  CheckByteLevel(root, spec);
}

// Tokens that only tokenizer_config.json lists are added, as Transformers does.
void ReadTokenizerConfig(const json& document, TokenizerSpec& spec) {
  const Field root(document, "tokenizer_config");
  const std::optional<Field> tokens = root.Find("added_tokens_decoder");
  if (!tokens) return;
  AddedTokenList added(spec);
  tokens->Expect(tokens->json().is_object(), "an object");
  for (const auto& [key, value] : tokens->json().get_ref<const json::object_t&>()) {
    const Field field(value, fmt::format("{}['{}']", tokens->path(), Field::Shortened(key)));
    uint32_t id = kMaxVocabSize;
    const auto parsed = std::from_chars(key.data(), key.data() + key.size(), id);
    if (parsed.ec != std::errc() || parsed.ptr != key.data() + key.size() || id >= kMaxVocabSize) {
      tokens->Fail(
          fmt::format("'{}' is not a token id below {}", Field::Shortened(key), kMaxVocabSize));
    }
    AddedToken token = ReadAddedToken(field, id);
    if (!added.Contains(token.content)) added.Add(field, std::move(token));
  }
}

}  // namespace

Result<TokenizerSpec> ReadTokenizerFile(const std::filesystem::path& model_dir) {
  TokenizerSpec spec;
  const std::filesystem::path path = model_dir / "tokenizer.json";
  const Result<std::string> text = ReadFile(path);
  if (!text) return tl::unexpected(text.error());
  KVS_RETURN_IF_ERROR(AtTheDoor(path, [&] { ReadTokenizerJson(ParseJson(*text), spec); }));

  const std::filesystem::path config_path = model_dir / "tokenizer_config.json";
  if (!std::filesystem::exists(config_path)) return spec;
  const Result<std::string> config = ReadFile(config_path);
  if (!config) return tl::unexpected(config.error());
  KVS_RETURN_IF_ERROR(
      AtTheDoor(config_path, [&] { ReadTokenizerConfig(ParseJson(*config), spec); }));
  return spec;
}

}  // namespace kvs
