#include "http/prompt_parse.h"

#include <fmt/format.h>

#include <algorithm>

namespace kvs {
namespace {

constexpr char kForms[] = "must be a string, an array of strings, or token ids";

class PromptReader {
 public:
  PromptReader(JsonReader& reader, const ParseContext& context, const PromptOptions& options)
      : reader_(reader), context_(context), options_(options) {}

  void AddText(const Json& value) {
    const std::string& text = value.get_ref<const std::string&>();
    EncodeOptions encode;
    encode.add_special_tokens = options_.add_special_tokens;
    auto tokens = context_.tokenizer.Encode(text, encode);
    if (!tokens) return reader_.Refuse(InvalidRequest(tokens.error().message(), "prompt"));
    Add(text, *std::move(tokens));
  }

  void AddTokens(const Json& array) {
    std::vector<TokenId> tokens;
    tokens.reserve(array.size());
    for (const Json& item : array) {
      const auto token = IntegerOf(item);
      if (!token || !(*token >= 0 && *token < int64_t{context_.info.vocab_size})) {
        return reader_.Refuse(
            InvalidRequest(fmt::format("'prompt' has {} where a token id from 0 to {} is expected",
                                       Shown(item), context_.info.vocab_size - 1),
                           "prompt"));
      }
      tokens.push_back({static_cast<uint32_t>(*token)});
    }
    std::string text;
    if (options_.want_text) text = context_.tokenizer.Decode(tokens, /*skip_special=*/true);
    Add(std::move(text), std::move(tokens));
  }

  std::vector<Prompt> TakePrompts() {
    if (reader_.error()) return {};
    return std::move(prompts_);
  }

 private:
  void Add(std::string text, std::vector<TokenId> tokens) {
    if (tokens.empty()) {
      return reader_.Refuse(
          InvalidRequest("'prompt' is empty: at least one token is needed", "prompt"));
    }
    if (options_.truncate_tokens && tokens.size() > *options_.truncate_tokens) {
      tokens.erase(tokens.begin(), tokens.end() - *options_.truncate_tokens);
      if (options_.want_text) text = context_.tokenizer.Decode(tokens, /*skip_special=*/true);
    }
    if (!options_.want_text) text.clear();
    prompts_.push_back({std::move(text), std::move(tokens)});
  }

  JsonReader& reader_;
  const ParseContext& context_;
  const PromptOptions& options_;
  std::vector<Prompt> prompts_;
};

template <class Predicate>
bool AllOf(const Json& array, Predicate predicate) {
  return std::all_of(array.begin(), array.end(), predicate);
}

// A list of tokens, of texts, or of lists of tokens.
void AddList(const Json& prompt, uint32_t max_prompts, JsonReader& reader, PromptReader& prompts) {
  if (prompt.empty()) {
    reader.Refuse("prompt", "must not be empty");
  } else if (prompt.front().is_number()) {
    prompts.AddTokens(prompt);
  } else if (prompt.size() > max_prompts) {
    reader.Refuse("prompt", fmt::format("may have at most {} prompts here", max_prompts));
  } else if (AllOf(prompt, [](const Json& item) { return item.is_string(); })) {
    for (const Json& item : prompt) {
      if (!reader.error()) prompts.AddText(item);
    }
  } else if (AllOf(prompt, [](const Json& item) { return item.is_array(); })) {
    for (const Json& item : prompt) {
      if (!reader.error()) prompts.AddTokens(item);
    }
  } else {
    reader.Refuse("prompt", kForms);
  }
}

}  // namespace

std::vector<Prompt> ReadPrompts(JsonReader& reader, const ParseContext& context,
                                const PromptOptions& options, uint32_t max_prompts) {
  const Json* prompt = reader.Find("prompt");
  PromptReader prompts(reader, context, options);
  if (prompt == nullptr) {
    reader.Refuse(InvalidRequest("'prompt' is missing", "prompt"));
  } else if (prompt->is_string()) {
    prompts.AddText(*prompt);
  } else if (prompt->is_array()) {
    AddList(*prompt, max_prompts, reader, prompts);
  } else {
    reader.Refuse("prompt", kForms);
  }
  return prompts.TakePrompts();
}

ApiResult<uint32_t> CheckedMaxTokens(const EngineInfo& info, uint64_t num_prompt_tokens,
                                     std::optional<int64_t> max_tokens,
                                     const LengthFields& fields) {
  const auto refuse = [&](uint64_t limit, std::string_view limit_name, const char* param) {
    const std::string asked =
        max_tokens ? fmt::format(" and '{}' asks for {} more", fields.max_tokens, *max_tokens)
                   : std::string(", which leaves no room for an answer");
    return tl::unexpected(InvalidRequest(fmt::format("{} is {} tokens: the prompt has {}{}",
                                                     limit_name, limit, num_prompt_tokens, asked),
                                         param, "context_length_exceeded"));
  };
  const uint64_t wanted = max_tokens ? static_cast<uint64_t>(*max_tokens) : 1;
  const auto check = [&](uint64_t limit, std::string_view limit_name) -> ApiResult<void> {
    if (num_prompt_tokens + wanted <= limit) return {};
    return refuse(limit, limit_name,
                  num_prompt_tokens >= limit ? fields.prompt : fields.max_tokens);
  };
  if (const auto fits = check(info.max_model_len, "the maximum context length"); !fits) {
    return tl::unexpected(fits.error());
  }
  if (const auto fits = check(info.kv_pool_tokens, "the KV cache of this server"); !fits) {
    return tl::unexpected(fits.error());
  }
  if (max_tokens) return static_cast<uint32_t>(*max_tokens);
  const uint64_t limit = std::min<uint64_t>(info.max_model_len, info.kv_pool_tokens);
  return static_cast<uint32_t>(
      std::min<uint64_t>(fields.default_tokens.value_or(UINT32_MAX), limit - num_prompt_tokens));
}

}  // namespace kvs
