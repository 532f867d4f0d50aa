#include "client/completions_api.h"

#include <fmt/format.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "client/prometheus_text.h"
#include "client/sse_parser.h"

namespace kvs {
namespace {

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

Json ParseJson(std::string_view text) { return Json::parse(text, nullptr, false); }

// The member of an object, or null: foreign servers leave out what they like.
const Json& Member(const Json& object, const char* key) {
  static const Json null;
  if (!object.is_object()) return null;
  const auto found = object.find(key);
  return found == object.end() ? null : *found;
}

std::string StringOr(const Json& value, std::string fallback) {
  return value.is_string() ? value.get<std::string>() : std::move(fallback);
}

std::optional<uint32_t> Uint(const Json& value) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() > UINT32_MAX) return std::nullopt;
  return static_cast<uint32_t>(value.get<uint64_t>());
}

std::optional<Usage> UsageOf(const Json& usage) {
  const auto prompt = Uint(Member(usage, "prompt_tokens"));
  const auto completion = Uint(Member(usage, "completion_tokens"));
  if (!prompt) return std::nullopt;
  return Usage{*prompt, completion.value_or(0),
               Uint(Member(Member(usage, "prompt_tokens_details"), "cached_tokens"))};
}

std::string BodyOf(const CompletionAsk& ask) {
  Json body = {{"model", ask.model},
               {"max_tokens", ask.max_tokens},
               {"temperature", 0},
               {"stream", true},
               {"stream_options", {{"include_usage", true}}}};
  std::visit([&](const auto& prompt) { body["prompt"] = prompt; }, ask.prompt);
  if (ask.exact_length) {
    body["ignore_eos"] = true;
    body["min_tokens"] = ask.max_tokens;
  }
  if (!ask.cache_salt.empty()) body["cache_salt"] = ask.cache_salt;
  if (ask.logprobs > 0) body["logprobs"] = ask.logprobs;
  return body.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// Adds the tokens of one event; of lists that do not fit each other none.
void AddTokens(const Json& logprobs, AnsweredTokens& tokens) {
  const Json& texts = Member(logprobs, "tokens");
  const Json& chosen = Member(logprobs, "token_logprobs");
  const Json& tops = Member(logprobs, "top_logprobs");
  if (!texts.is_array() || !chosen.is_array() || !tops.is_array()) return;
  if (texts.size() != chosen.size() || texts.size() != tops.size()) return;
  for (size_t i = 0; i < texts.size(); ++i) {
    AnsweredToken& token = tokens.emplace_back();
    token.text = StringOr(texts[i], "");
    if (chosen[i].is_number()) token.logprob = chosen[i].get<double>();
    if (!tops[i].is_object()) continue;
    for (const auto& [text, logprob] : tops[i].items()) {
      if (logprob.is_number()) token.top[text] = logprob.get<double>();
    }
  }
}

// Reads one stream's events into a Completion.
class StreamReader {
 public:
  // Returns false to stop reading: after an error or the end of the stream.
  bool OnEvent(std::string_view data) {
    if (data == "[DONE]") {
      done_ = true;
      return true;
    }
    const Json event = ParseJson(data);
    if (event.is_discarded()) return Fail("an event is not JSON");
    if (const Json& error = Member(event, "error"); !error.is_null()) {
      return Fail(StringOr(Member(error, "message"), error.dump()));
    }
    if (auto usage = UsageOf(Member(event, "usage"))) completion_.usage = usage;
    const Json& choices = Member(event, "choices");
    if (choices.is_array() && !choices.empty()) OnChoice(choices[0]);
    return true;
  }

  Clock::time_point start() const { return start_; }
  bool done() const { return done_; }
  const std::string& error() const { return error_; }

  Completion Take() {
    completion_.total_s = SecondsSince(start_);
    return std::move(completion_);
  }

 private:
  bool Fail(const std::string& what) {
    error_ = what;
    return false;
  }

  void OnChoice(const Json& choice) {
    const std::string text = StringOr(Member(choice, "text"), "");
    const std::string reason = StringOr(Member(choice, "finish_reason"), "");
    if (!reason.empty()) completion_.finish_reason = reason;
    completion_.text += text;
    AddTokens(Member(choice, "logprobs"), completion_.tokens);
    // A token may add no text yet. A last event may carry the reason alone; it is a token's arrival
    // only if it is the first.
    if (text.empty() && !reason.empty() && first_seen_) return;
    const double now = SecondsSince(start_);
    if (first_seen_) {
      completion_.gaps_s.push_back(now - last_s_);
    } else {
      completion_.first_token_s = now;
    }
    first_seen_ = true;
    last_s_ = now;
  }

  const Clock::time_point start_ = Clock::now();
  Completion completion_;
  std::string error_;
  bool done_ = false;
  bool first_seen_ = false;
  double last_s_ = 0.0;
};

}  // namespace

Status StatusOfResponse(const HttpResponse& response) {
  const Json body = ParseJson(response.body);
  const Json& error = Member(body, "error");
  std::string message = StringOr(Member(error, "message"), StringOr(error, ""));
  if (message.empty()) message = response.body.substr(0, 200);
  const std::string text = fmt::format("the server answered {}: {}", response.status, message);
  switch (response.status) {
    case 400:
    case 413:
    case 422:
      return Status(Code::kInvalidArgument, text);
    case 401:
    case 403:
      return Status(Code::kUnauthenticated, text);
    case 404:
      return Status(Code::kNotFound, text);
    default:
      return Status(Code::kUnavailable, text);
  }
}

CacheMetrics CacheMetricsOf(const std::string& metrics_text) {
  const auto samples = ParsePrometheusText(metrics_text);
  CacheMetrics metrics;
  const auto queries = SumOfSamples(samples, "vllm:prefix_cache_queries_total");
  const auto hits = SumOfSamples(samples, "vllm:prefix_cache_hits_total");
  if (queries && hits && *queries >= 0.0 && *hits >= 0.0) {
    metrics.counters =
        PrefixCounters{static_cast<uint64_t>(*queries), static_cast<uint64_t>(*hits)};
  }
  if (const auto* scales = FindSample(samples, "kvserve_kv_scales_info")) {
    const auto source = scales->labels.find("source");
    if (source != scales->labels.end()) metrics.kv_scale_source = source->second;
  }
  const PrometheusSample* info = FindSample(samples, "vllm:cache_config_info");
  if (info == nullptr) return metrics;
  if (const auto dtype = info->labels.find("cache_dtype"); dtype != info->labels.end()) {
    metrics.kv_cache_dtype = dtype->second;
  }
  if (const auto size = info->labels.find("block_size"); size != info->labels.end()) {
    metrics.block_size = Uint(ParseJson(size->second));
  }
  if (const auto on = info->labels.find("enable_prefix_caching"); on != info->labels.end()) {
    metrics.enable_prefix_caching = on->second == "True" || on->second == "true";
  }
  return metrics;
}

Result<ServedModel> CompletionsApi::FindModel(const std::string& id) {
  const auto response = http_.Get("/v1/models");
  if (!response) return tl::unexpected(response.error());
  if (response->status != 200) {
    return tl::unexpected(StatusOfResponse(*response).WithContext("GET /v1/models"));
  }
  const Json body = ParseJson(response->body);
  const Json& list = Member(body, "data");
  if (!list.is_array() || list.empty()) {
    return Error(Code::kDataError, "GET /v1/models: the server lists no model");
  }
  std::string names;
  for (const Json& model : list) {
    const std::string name = StringOr(Member(model, "id"), "");
    if (id.empty() || name == id) return ServedModel{name, Uint(Member(model, "max_model_len"))};
    names += (names.empty() ? "" : ", ") + name;
  }
  return Error(Code::kNotFound,
               fmt::format("model '{}' is not served here; the server has: {}", id, names));
}

tl::expected<Completion, CompletionFailure> CompletionsApi::Complete(const CompletionAsk& ask) {
  const std::string body = BodyOf(ask);
  StreamReader reader;
  SseParser parser([&](std::string_view data) { return reader.OnEvent(data); });
  const auto response = http_.PostStream(
      "/v1/completions", body, [&](std::string_view piece) { return parser.Feed(piece); });
  if (!response) return tl::unexpected(CompletionFailure{"transport", response.error()});
  if (response->status != 200) {
    return tl::unexpected(
        CompletionFailure{fmt::format("http {}", response->status), StatusOfResponse(*response)});
  }
  if (!reader.error().empty()) {
    return tl::unexpected(CompletionFailure{
        "stream", Status(Code::kUnavailable, "in the stream: " + reader.error())});
  }
  if (!reader.done()) {
    return tl::unexpected(CompletionFailure{
        "stream", Status(Code::kUnavailable, "the stream ended before its [DONE]")});
  }
  return reader.Take();
}

std::optional<PromptIds> CompletionsApi::Tokenize(const std::string& model,
                                                  const std::string& text) {
  const Json body = {{"model", model}, {"prompt", text}, {"add_special_tokens", false}};
  const auto response = http_.Post("/tokenize", body.dump());
  if (!response || response->status != 200) return std::nullopt;
  const Json answer = ParseJson(response->body);
  const Json& tokens = Member(answer, "tokens");
  if (!tokens.is_array() || tokens.empty()) return std::nullopt;
  PromptIds ids;
  for (const Json& token : tokens) {
    const auto id = Uint(token);
    if (!id) return std::nullopt;
    ids.push_back(*id);
  }
  return ids;
}

CacheMetrics CompletionsApi::ReadCacheMetrics() {
  const auto response = http_.Get("/metrics");
  if (!response || response->status != 200) return {};
  return CacheMetricsOf(response->body);
}

std::optional<bool> CompletionsApi::ReadBatchInvariant() {
  const auto response = http_.Get("/server_info");
  if (!response || response->status != 200) return std::nullopt;
  const Json info = ParseJson(response->body);
  const Json& told = Member(info, "batch_invariant");
  return told.is_boolean() ? std::optional(told.get<bool>()) : std::nullopt;
}

}  // namespace kvs
