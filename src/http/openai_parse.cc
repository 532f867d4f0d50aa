#include "http/openai_parse.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "http/chat_parse.h"
#include "http/json_reader.h"
#include "http/prompt_parse.h"
#include "http/request_fields.h"

namespace kvs {
namespace {

// Fields of other servers that change the answer and are not offered: refused, never ignored.
constexpr std::array<std::string_view, 13> kCompletionFieldsNotOffered = {
    "suffix",           "use_beam_search", "prompt_embeds",      "prompt_logprobs",
    "bad_words",        "guided_json",     "guided_regex",       "guided_choice",
    "guided_grammar",   "response_format", "structured_outputs", "allowed_token_ids",
    "logits_processors"};

constexpr std::array<std::string_view, 30> kCompletionFields = {"model",
                                                                "prompt",
                                                                "n",
                                                                "best_of",
                                                                "max_tokens",
                                                                "min_tokens",
                                                                "temperature",
                                                                "top_k",
                                                                "top_p",
                                                                "min_p",
                                                                "presence_penalty",
                                                                "frequency_penalty",
                                                                "repetition_penalty",
                                                                "logit_bias",
                                                                "seed",
                                                                "stop",
                                                                "stop_token_ids",
                                                                "ignore_eos",
                                                                "logprobs",
                                                                "echo",
                                                                "stream",
                                                                "stream_options",
                                                                "user",
                                                                "cache_salt",
                                                                "priority",
                                                                "skip_special_tokens",
                                                                "include_stop_str_in_output",
                                                                "add_special_tokens",
                                                                "truncate_prompt_tokens",
                                                                "request_id"};

void ReadLogprobs(JsonReader& reader, CompletionCall& call, SamplingParams& sampling) {
  reader.Bool("echo", call.echo);
  int64_t logprobs = -1;
  reader.Integer("logprobs", 0, kMaxLogprobs, logprobs);
  if (logprobs < 0) return;
  call.logprobs = true;
  sampling.num_logprobs = static_cast<uint32_t>(logprobs);
  if (call.echo) sampling.num_prompt_logprobs = sampling.num_logprobs;
}

// Tokens to generate for the longest prompt, and with it min_tokens.
std::optional<int64_t> ReadMaxTokens(JsonReader& reader, CompletionCall& call,
                                     SamplingParams& sampling) {
  if (reader.Find("max_tokens") == nullptr) return std::nullopt;
  int64_t max_tokens = 0;
  reader.Integer("max_tokens", 0, kMaxTokensBound, max_tokens);
  if (max_tokens > 0) return max_tokens;
  if (!call.echo) reader.Refuse("max_tokens", "must be at least 1, unless 'echo' is true");
  call.generates = false;
  // The request is its prompt's logprobs.
  if (!sampling.num_prompt_logprobs) sampling.num_prompt_logprobs = 0;
  return max_tokens;
}

PromptOptions ReadPromptOptions(JsonReader& reader, const ParseContext& context, bool echo) {
  PromptOptions options;
  options.want_text = echo;
  reader.Bool("add_special_tokens", options.add_special_tokens);
  int64_t truncate = 0;
  reader.Integer("truncate_prompt_tokens", 1, context.info.max_model_len, truncate);
  if (truncate > 0) options.truncate_tokens = static_cast<uint32_t>(truncate);
  return options;
}

}  // namespace

ApiResult<CompletionCall> ParseCompletion(std::string_view body, const ParseContext& context) {
  const auto json = ParseObject(body);
  if (!json) return tl::unexpected(json.error());
  JsonReader reader(*json);
  CompletionCall call;
  call.id = context.request_id;
  SamplingParams sampling;
  ReadModel(reader, context, call.model);
  CheckFieldNames(*json, kCompletionFieldsNotOffered, kCompletionFields, reader);
  ReadCounts(reader, call);
  ReadStream(reader, call);
  ReadLogprobs(reader, call, sampling);
  ReadSampling(reader, context.info, sampling);
  ReadStopStrings(reader, call.text.stop_strings);
  const Extras extras = ReadExtras(reader, call);
  const auto max_tokens = ReadMaxTokens(reader, call, sampling);
  int64_t min_tokens = 0;
  reader.Integer("min_tokens", 0, max_tokens.value_or(kDefaultMaxTokens), min_tokens);
  sampling.min_tokens = static_cast<uint32_t>(min_tokens);
  call.text.min_tokens = sampling.min_tokens;
  call.prompts = ReadPrompts(reader, context, ReadPromptOptions(reader, context, call.echo),
                             kMaxChoices / call.n);
  if (reader.error()) return tl::unexpected(*reader.error());
  call.stop_token_ids = sampling.stop_token_ids;
  const auto made =
      MakeRequests(context, extras, max_tokens, kCompletionLength, std::move(sampling), call);
  if (!made) return tl::unexpected(made.error());
  return call;
}

ApiResult<TokenizeCall> ParseTokenize(std::string_view body, const ParseContext& context) {
  const auto json = ParseObject(body);
  if (!json) return tl::unexpected(json.error());
  if (json->contains("messages") && !json->contains("prompt")) {
    return ParseTokenizeChat(body, context);
  }
  JsonReader reader(*json);
  std::string model;
  ReadModel(reader, context, model);
  TokenizeCall call;
  EncodeOptions encode;
  reader.Bool("add_special_tokens", encode.add_special_tokens);
  reader.Bool("return_token_strs", call.return_token_strs);
  const Json* prompt = reader.Find("prompt");
  if (prompt == nullptr || !prompt->is_string()) {
    reader.Refuse("prompt", "must be a string, or 'messages' must stand in its place");
  }
  if (reader.error()) return tl::unexpected(*reader.error());
  auto tokens = context.tokenizer.Encode(prompt->get_ref<const std::string&>(), encode);
  if (!tokens) return tl::unexpected(InvalidRequest(tokens.error().message(), "prompt"));
  call.tokens = *std::move(tokens);
  return call;
}

ApiResult<std::vector<TokenId>> ParseDetokenize(std::string_view body,
                                                const ParseContext& context) {
  const auto json = ParseObject(body);
  if (!json) return tl::unexpected(json.error());
  JsonReader reader(*json);
  std::string model;
  ReadModel(reader, context, model);
  std::vector<TokenId> tokens;
  if (reader.Find("tokens") == nullptr) reader.Refuse("tokens", "must be an array of token ids");
  reader.TokenIds("tokens", kMaxDetokenizeTokens, context.info.vocab_size, tokens);
  if (reader.error()) return tl::unexpected(*reader.error());
  return tokens;
}

}  // namespace kvs
