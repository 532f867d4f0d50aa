#include "http/openai_parse.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/log.h"
#include "http/json_reader.h"
#include "http/prompt_parse.h"

namespace kvs {
namespace {

constexpr int64_t kMaxTokensBound = (int64_t{1} << 31) - 1;
constexpr size_t kMaxNameBytes = 1024;

// Fields of other servers that change the answer and are not offered: refused, never ignored.
constexpr std::array kNotOffered = {"suffix",           "use_beam_search",    "prompt_embeds",
                                    "prompt_logprobs",  "bad_words",          "guided_json",
                                    "guided_regex",     "guided_choice",      "guided_grammar",
                                    "response_format",  "structured_outputs", "allowed_token_ids",
                                    "logits_processors"};

constexpr std::array kKnown = {"model",
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

bool AsksForNothing(const Json& value) {
  return value.is_null() || (value.is_boolean() && !value.get<bool>()) ||
         ((value.is_string() || value.is_array()) && value.empty()) ||
         (value.is_string() && value.get_ref<const std::string&>().empty());
}

void CheckFieldNames(const Json& object, JsonReader& reader) {
  for (const char* name : kNotOffered) {
    const auto found = object.find(name);
    if (found == object.end() || AsksForNothing(*found)) continue;
    return reader.Refuse(
        InvalidRequest(fmt::format("'{}' is not supported by this server", name), name));
  }
  if (!LogEnabled(LogLevel::kDebug)) return;
  for (const auto& [name, value] : object.items()) {
    const bool known = std::find(kKnown.begin(), kKnown.end(), name) != kKnown.end();
    if (!known) LOG_DEBUG("ignoring the unknown field '{}'", name.substr(0, 64));
  }
}

void ReadModel(JsonReader& reader, const ParseContext& context, std::string& model) {
  model = context.served_model_names.front();
  std::string asked = model;
  reader.String("model", kMaxNameBytes, asked);
  const auto& served = context.served_model_names;
  if (std::find(served.begin(), served.end(), asked) != served.end()) return;
  reader.Refuse(ModelNotFound(asked, served.front()));
}

void ReadLogitBias(JsonReader& reader, uint32_t vocab_size, SamplingParams& sampling) {
  const Json* bias = reader.Find("logit_bias");
  if (bias == nullptr) return;
  if (!bias->is_object() || bias->size() > kMaxLogitBias) {
    return reader.Refuse("logit_bias",
                         fmt::format("must be an object of at most {} entries", kMaxLogitBias));
  }
  for (const auto& [key, value] : bias->items()) {
    uint32_t token = 0;
    const auto parsed = std::from_chars(key.data(), key.data() + key.size(), token);
    const bool whole = parsed.ec == std::errc() && parsed.ptr == key.data() + key.size();
    if (!whole || token >= vocab_size) {
      return reader.Refuse(InvalidRequest(
          fmt::format("'logit_bias' has the key {} where a token id from 0 to {} is expected",
                      Shown(Json(key)), vocab_size - 1),
          "logit_bias"));
    }
    const double number = value.is_number() ? value.get<double>() : 1e9;
    if (!(number >= -100 && number <= 100)) {
      return reader.Refuse(InvalidRequest(
          fmt::format("'logit_bias' must have values from -100 to 100, got {} for {}", Shown(value),
                      key),
          "logit_bias"));
    }
    sampling.logit_bias.emplace_back(TokenId{token}, static_cast<float>(number));
  }
  std::sort(sampling.logit_bias.begin(), sampling.logit_bias.end());
  const auto same = [](const auto& a, const auto& b) { return a.first == b.first; };
  const auto twice =
      std::adjacent_find(sampling.logit_bias.begin(), sampling.logit_bias.end(), same);
  if (twice != sampling.logit_bias.end()) {
    reader.Refuse(InvalidRequest(
        fmt::format("'logit_bias' names the token {} twice", twice->first.value), "logit_bias"));
  }
}

void ReadSampling(JsonReader& reader, const EngineInfo& info, SamplingParams& sampling) {
  reader.Number("temperature", 0, 2, sampling.temperature);
  reader.Number("min_p", 0, 1, sampling.min_p);
  reader.Number("presence_penalty", -2, 2, sampling.presence_penalty);
  reader.Number("frequency_penalty", -2, 2, sampling.frequency_penalty);
  reader.Number("top_p", 0, 1, sampling.top_p);
  // Above 0, also once it is a float.
  if (!(sampling.top_p > 0)) reader.Refuse("top_p", "must be a number above 0 and at most 1");
  reader.Number("repetition_penalty", 0, 10, sampling.repetition_penalty);
  if (!(sampling.repetition_penalty > 0)) {
    reader.Refuse("repetition_penalty", "must be a number above 0 and at most 10");
  }
  int64_t top_k = 0;
  reader.Integer("top_k", -1, INT32_MAX, top_k);
  sampling.top_k = static_cast<int32_t>(std::max<int64_t>(top_k, 0));  // -1 is vLLM's "off"
  reader.Bool("ignore_eos", sampling.ignore_eos);
  reader.TokenIds("stop_token_ids", kMaxStopTokenIds, info.vocab_size, sampling.stop_token_ids);
  ReadLogitBias(reader, info.vocab_size, sampling);
}

void ReadStopStrings(JsonReader& reader, std::vector<std::string>& stops) {
  const Json* stop = reader.Find("stop");
  if (stop == nullptr) return;
  const Json list = stop->is_array() ? *stop : Json::array({*stop});
  if (list.size() > kMaxStopStrings) {
    return reader.Refuse("stop", fmt::format("may have at most {} strings", kMaxStopStrings));
  }
  for (const Json& item : list) {
    const bool fits = item.is_string() && !item.get_ref<const std::string&>().empty() &&
                      item.get_ref<const std::string&>().size() <= kMaxStopBytes;
    if (!fits) {
      return reader.Refuse(
          InvalidRequest(fmt::format("'stop' must have strings of 1 to {} bytes, got {}",
                                     kMaxStopBytes, Shown(item)),
                         "stop"));
    }
    stops.push_back(item.get<std::string>());
  }
}

void ReadStream(JsonReader& reader, CompletionCall& call) {
  reader.Bool("stream", call.stream);
  const Json* options = reader.Find("stream_options");
  if (options == nullptr) return;
  if (!call.stream) return reader.Refuse("stream_options", "is allowed only with 'stream': true");
  if (!options->is_object()) return reader.Refuse("stream_options", "must be an object");
  JsonReader nested(*options, "stream_options.");
  nested.Bool("include_usage", call.include_usage);
  nested.Bool("continuous_usage_stats", call.continuous_usage);
  if (nested.error()) reader.Refuse(*nested.error());
}

void ReadLogprobs(JsonReader& reader, CompletionCall& call, SamplingParams& sampling) {
  reader.Bool("echo", call.echo);
  int64_t logprobs = -1;
  reader.Integer("logprobs", 0, kMaxLogprobs, logprobs);
  if (logprobs < 0) return;
  call.logprobs = true;
  sampling.num_logprobs = static_cast<uint32_t>(logprobs);
  if (call.echo) sampling.num_prompt_logprobs = sampling.num_logprobs;
}

void ReadCounts(JsonReader& reader, CompletionCall& call) {
  int64_t n = 1;
  reader.Integer("n", 1, kMaxChoices, n);
  call.n = static_cast<uint32_t>(n);
  int64_t best_of = n;
  reader.Integer("best_of", 1, kMaxChoices, best_of);
  if (best_of != n) reader.Refuse("best_of", fmt::format("must be absent or equal to 'n' ({})", n));
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

struct Extras {
  std::string cache_salt;
  int64_t priority = 0;
  std::optional<int64_t> seed;
};

Extras ReadExtras(JsonReader& reader, CompletionCall& call) {
  Extras extras;
  reader.String("cache_salt", kMaxNameBytes, extras.cache_salt);
  if (reader.Find("cache_salt") != nullptr && extras.cache_salt.empty()) {
    reader.Refuse("cache_salt", "must not be an empty string");
  }
  reader.Integer("priority", INT32_MIN, INT32_MAX, extras.priority);
  if (reader.Find("seed") != nullptr) {
    int64_t seed = 0;
    reader.Integer("seed", INT64_MIN, INT64_MAX, seed);
    extras.seed = seed;
  }
  reader.String("request_id", 128, call.id);
  reader.Bool("skip_special_tokens", call.text.skip_special_tokens);
  reader.Bool("include_stop_str_in_output", call.text.include_stop_string);
  return extras;
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

// One Request per choice. A client's seed gives every prompt what it would get alone.
ApiResult<void> MakeRequests(const ParseContext& context, const Extras& extras,
                             std::optional<int64_t> max_tokens, SamplingParams sampling,
                             CompletionCall& call) {
  const std::string scope = CacheScope(context.api_key_digest, extras.cache_salt);
  for (const Prompt& prompt : call.prompts) {
    const auto checked = CheckedMaxTokens(context.info, prompt.tokens.size(), max_tokens);
    if (!checked) return tl::unexpected(checked.error());
    sampling.max_tokens = *checked;
    sampling.min_tokens = std::min(sampling.min_tokens, *checked);
    for (uint32_t choice = 0; choice < call.n; ++choice) {
      Request request;
      request.external_id = call.id;
      request.prompt = prompt.tokens;
      request.sampling = sampling;
      request.sampling.seed =
          extras.seed ? static_cast<uint64_t>(*extras.seed) + choice : context.draw_seed();
      request.cache_scope = scope;
      request.priority = static_cast<int32_t>(extras.priority);
      request.arrival = context.arrival;
      call.requests.push_back(std::move(request));
    }
  }
  return {};
}

ApiResult<Json> ParseObject(std::string_view body) {
  auto json = ParseJson(body);
  if (json && !json->is_object()) {
    return tl::unexpected(InvalidRequest("the body is not a JSON object"));
  }
  return json;
}

}  // namespace

std::string CacheScope(std::string_view api_key_digest, std::string_view cache_salt) {
  if (api_key_digest.empty() && cache_salt.empty()) return {};
  std::string scope;
  for (const std::string_view part : {api_key_digest, cache_salt}) {
    const uint64_t size = part.size();
    scope.append(reinterpret_cast<const char*>(&size), sizeof size);
    scope.append(part);
  }
  return scope;
}

ApiResult<CompletionCall> ParseCompletion(std::string_view body, const ParseContext& context) {
  const auto json = ParseObject(body);
  if (!json) return tl::unexpected(json.error());
  JsonReader reader(*json);
  CompletionCall call;
  call.id = context.request_id;
  SamplingParams sampling;
  ReadModel(reader, context, call.model);
  CheckFieldNames(*json, reader);
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
  const auto made = MakeRequests(context, extras, max_tokens, std::move(sampling), call);
  if (!made) return tl::unexpected(made.error());
  return call;
}

ApiResult<TokenizeCall> ParseTokenize(std::string_view body, const ParseContext& context) {
  const auto json = ParseObject(body);
  if (!json) return tl::unexpected(json.error());
  JsonReader reader(*json);
  std::string model;
  ReadModel(reader, context, model);
  TokenizeCall call;
  EncodeOptions encode;
  reader.Bool("add_special_tokens", encode.add_special_tokens);
  reader.Bool("return_token_strs", call.return_token_strs);
  const Json* prompt = reader.Find("prompt");
  if (prompt == nullptr || !prompt->is_string()) reader.Refuse("prompt", "must be a string");
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
