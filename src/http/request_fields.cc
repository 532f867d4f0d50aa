#include "http/request_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/log.h"
#include "http/generation_defaults.h"

namespace kvs {
namespace {

bool AsksForNothing(const Json& value) {
  return value.is_null() || (value.is_boolean() && !value.get<bool>()) ||
         ((value.is_string() || value.is_array()) && value.empty()) ||
         (value.is_string() && value.get_ref<const std::string&>().empty());
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

}  // namespace

ApiResult<Json> ParseObject(std::string_view body) {
  auto json = ParseJson(body);
  if (json && !json->is_object()) {
    return tl::unexpected(InvalidRequest("the body is not a JSON object"));
  }
  return json;
}

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

void CheckFieldNames(const Json& object, std::span<const std::string_view> not_offered,
                     std::span<const std::string_view> known_names, JsonReader& reader) {
  for (const std::string_view name : not_offered) {
    const auto found = object.find(name);
    if (found == object.end() || AsksForNothing(*found)) continue;
    return reader.Refuse(InvalidRequest(fmt::format("'{}' is not supported by this server", name),
                                        std::string(name)));
  }
  if (!LogEnabled(LogLevel::kDebug)) return;
  for (const auto& [name, value] : object.items()) {
    const bool known = std::find(known_names.begin(), known_names.end(), name) != known_names.end();
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

void ReadSampling(JsonReader& reader, const EngineInfo& info, SamplingParams& sampling) {
  ApplyDefaults(info.generation, sampling);
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
  int64_t top_k = sampling.top_k;
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

void ReadCounts(JsonReader& reader, CompletionCall& call) {
  int64_t n = 1;
  reader.Integer("n", 1, kMaxChoices, n);
  call.n = static_cast<uint32_t>(n);
  int64_t best_of = n;
  reader.Integer("best_of", 1, kMaxChoices, best_of);
  if (best_of != n) reader.Refuse("best_of", fmt::format("must be absent or equal to 'n' ({})", n));
}

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

ApiResult<void> MakeRequests(const ParseContext& context, const Extras& extras,
                             std::optional<int64_t> max_tokens, const LengthFields& length,
                             SamplingParams sampling, CompletionCall& call) {
  const std::string scope = CacheScope(context.api_key_digest, extras.cache_salt);
  for (const Prompt& prompt : call.prompts) {
    const auto checked = CheckedMaxTokens(context.info, prompt.tokens.size(), max_tokens, length);
    if (!checked) return tl::unexpected(checked.error());
    sampling.max_tokens = CapMaxTokens(context.info.generation, *checked);
    sampling.min_tokens = std::min(sampling.min_tokens, sampling.max_tokens);
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

}  // namespace kvs
