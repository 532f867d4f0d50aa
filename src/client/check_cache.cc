// kvserve check-cache: one prompt, sent twice.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "client/cache_verdict.h"
#include "client/client.h"
#include "client/completions_api.h"
#include "client/random_text.h"

namespace kvs {
namespace {

constexpr uint32_t kSizingWords = 64;
constexpr uint32_t kLogprobs = 5;
constexpr int kPromptAttempts = 3;
constexpr int kCounterPolls = 10;
constexpr std::chrono::milliseconds kCounterPollInterval(100);

struct Finding {
  std::string model;
  Completion first;
  Completion second;
  CacheObservation seen;
  CacheVerdict verdict;
  std::optional<std::string> kv_scale_source;
};

std::mt19937_64 UnpredictableRandom() {
  std::random_device device;
  return std::mt19937_64((uint64_t{device()} << 32) | device());
}

class CacheCheck {
 public:
  CacheCheck(const CheckCacheCommand& command, const Url& url)
      : command_(command), api_(url, command.api_key), random_(UnpredictableRandom()) {}

  Result<Finding> Run() {
    KVS_RETURN_IF_ERROR(FindModel());
    batch_invariant_ = api_.ReadBatchInvariant();
    auto tokens_per_word = Probe();
    if (!tokens_per_word) return tl::unexpected(tokens_per_word.error());
    Finding finding;
    finding.model = ask_.model;
    KVS_RETURN_IF_ERROR(SendCold(*tokens_per_word, &finding.first));
    auto second = Send();
    if (!second) return tl::unexpected(second.error());
    finding.second = std::move(*second);
    after_second_ = CountersAfter(after_first_, finding.second);
    finding.seen = Observe(finding);
    finding.kv_scale_source = before_first_.kv_scale_source;
    finding.verdict = JudgeCache(finding.seen);
    return finding;
  }

 private:
  Result<void> FindModel() {
    const auto model = api_.FindModel(command_.model);
    if (!model) return tl::unexpected(model.error());
    ask_.model = model->id;
    ask_.max_tokens = command_.max_tokens;
    ask_.logprobs = kLogprobs;
    const uint64_t wanted = uint64_t{command_.prompt_tokens} + command_.max_tokens;
    if (model->max_model_len && wanted > *model->max_model_len) {
      return Error(Code::kInvalidArgument,
                   fmt::format("--prompt-tokens {} and --max-tokens {} do not fit the model's {} "
                               "tokens",
                               command_.prompt_tokens, command_.max_tokens, *model->max_model_len));
    }
    return {};
  }

  Result<Completion> Send() {
    auto completion = api_.Complete(ask_);
    if (!completion) return tl::unexpected(completion.error().status);
    if (!completion->usage) {
      return Error(Code::kDataError,
                   "the server sends no usage with stream_options.include_usage, so the length of "
                   "the prompt cannot be known");
    }
    return std::move(*completion);
  }

  // Tokens per word here; also opens the connection, so that the first time measured has no
  // handshake in it.
  Result<double> Probe() {
    ask_.prompt = RandomWords(kSizingWords, random_);
    auto probe = Send();
    if (!probe && probe.error().code() == Code::kInvalidArgument) {
      // Some servers refuse log probabilities; then the texts alone are compared.
      ask_.logprobs = 0;
      probe = Send();
    }
    if (!probe) return tl::unexpected(probe.error());
    return std::max(1u, probe->usage->prompt_tokens) / static_cast<double>(kSizingWords);
  }

  // Sends a prompt of at least the length asked for, a new one when the first guess was short.
  Result<void> SendCold(double tokens_per_word, Completion* first) {
    for (int attempt = 0; attempt < kPromptAttempts; ++attempt) {
      const auto num_words =
          static_cast<uint32_t>(std::ceil(command_.prompt_tokens / tokens_per_word * 1.02)) + 4;
      ask_.prompt = RandomWords(num_words, random_);
      before_first_ = api_.ReadCacheMetrics();
      auto completion = Send();
      if (!completion) return tl::unexpected(completion.error());
      after_first_ = CountersAfter(before_first_, *completion);
      *first = std::move(*completion);
      if (first->usage->prompt_tokens >= command_.prompt_tokens) return {};
      tokens_per_word = first->usage->prompt_tokens / static_cast<double>(num_words);
    }
    return Error(
        Code::kDataError,
        fmt::format("the server counts {} tokens in a prompt meant to have {}; does it cut "
                    "prompts?",
                    first->usage->prompt_tokens, command_.prompt_tokens));
  }

  // Counters may follow a moment after the response.
  CacheMetrics CountersAfter(const CacheMetrics& before, const Completion& completion) {
    CacheMetrics after = api_.ReadCacheMetrics();
    if (!before.counters || !after.counters) return after;
    const uint64_t queries = before.counters->queries + 1;
    const uint64_t hits = before.counters->hits + completion.usage->cached_tokens.value_or(0);
    for (int poll = 0; poll < kCounterPolls; ++poll) {
      if (!after.counters || (after.counters->queries >= queries && after.counters->hits >= hits)) {
        break;
      }
      std::this_thread::sleep_for(kCounterPollInterval);
      after = api_.ReadCacheMetrics();
    }
    return after;
  }

  static std::optional<PrefixCounters> Growth(const CacheMetrics& from, const CacheMetrics& to) {
    if (!from.counters || !to.counters || to.counters->hits < from.counters->hits ||
        to.counters->queries < from.counters->queries) {
      return std::nullopt;
    }
    return PrefixCounters{to.counters->queries - from.counters->queries,
                          to.counters->hits - from.counters->hits};
  }

  CacheObservation Observe(const Finding& finding) const {
    CacheObservation seen;
    seen.prompt_tokens = finding.second.usage->prompt_tokens;
    seen.block_size = before_first_.block_size;
    seen.enable_prefix_caching = before_first_.enable_prefix_caching;
    seen.cached_first = finding.first.usage->cached_tokens;
    seen.cached_second = finding.second.usage->cached_tokens;
    seen.grown_first = Growth(before_first_, after_first_);
    seen.grown_second = Growth(after_first_, after_second_);
    seen.same_text = finding.first.text == finding.second.text;
    seen.kv_cache_dtype = before_first_.kv_cache_dtype;
    seen.batch_invariant = batch_invariant_;
    seen.first_tokens = finding.first.tokens;
    seen.second_tokens = finding.second.tokens;
    seen.ttft_first_s = finding.first.first_token_s;
    seen.ttft_second_s = finding.second.first_token_s;
    return seen;
  }

  const CheckCacheCommand& command_;
  CompletionsApi api_;
  std::mt19937_64 random_;
  CompletionAsk ask_;
  CacheMetrics before_first_, after_first_, after_second_;
  std::optional<bool> batch_invariant_;
};

template <class T>
nlohmann::ordered_json OrNull(const std::optional<T>& value) {
  if (!value) return nullptr;
  return *value;
}

nlohmann::ordered_json RequestJson(const Completion& completion,
                                   const std::optional<PrefixCounters>& grown) {
  nlohmann::ordered_json json;
  json["time_to_first_token_ms"] = completion.first_token_s * 1e3;
  json["total_ms"] = completion.total_s * 1e3;
  json["prompt_tokens"] = completion.usage->prompt_tokens;
  json["completion_tokens"] = completion.usage->completion_tokens;
  json["cached_tokens"] = OrNull(completion.usage->cached_tokens);
  json["prefix_cache_queries_growth"] = nullptr;
  json["prefix_cache_hits_growth"] = nullptr;
  if (grown) {
    json["prefix_cache_queries_growth"] = grown->queries;
    json["prefix_cache_hits_growth"] = grown->hits;
  }
  json["text"] = completion.text;
  return json;
}

std::string JsonReport(const Finding& finding) {
  nlohmann::ordered_json json;
  json["verdict"] = finding.verdict.pass ? "PASS" : "FAIL";
  json["reason"] = finding.verdict.reason;
  json["warnings"] = finding.verdict.warnings;
  json["model"] = finding.model;
  json["block_size"] = OrNull(finding.seen.block_size);
  json["kv_cache_dtype"] = OrNull(finding.seen.kv_cache_dtype);
  json["kv_scales"] = OrNull(finding.kv_scale_source);
  json["enable_prefix_caching"] = OrNull(finding.seen.enable_prefix_caching);
  json["reused_tokens"] = finding.verdict.reused_tokens;
  json["batch_invariant"] = OrNull(finding.seen.batch_invariant);
  json["identical_text"] = finding.seen.same_text;
  json["text_distance"] = nullptr;
  if (!finding.first.tokens.empty() && !finding.second.tokens.empty()) {
    const Distance distance = DistanceOf(finding.first.tokens, finding.second.tokens);
    json["text_distance"] = {{"mean_nats", distance.mean_delta}, {"gap_nats", distance.gap}};
  }
  json["first"] = RequestJson(finding.first, finding.seen.grown_first);
  json["second"] = RequestJson(finding.second, finding.seen.grown_second);
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

template <class T>
std::string OrUnknown(const std::optional<T>& value) {
  return value ? fmt::format("{}", *value) : "not reported";
}

std::string Row(const char* name, const std::string& first, const std::string& second) {
  return fmt::format("{:<28}{:>16}{:>16}\n", name, first, second);
}

std::string Milliseconds(double seconds) { return fmt::format("{:.1f} ms", seconds * 1e3); }

std::string TextReport(const Finding& finding) {
  const CacheObservation& seen = finding.seen;
  const auto hits = [](const std::optional<PrefixCounters>& grown) {
    return grown ? fmt::format("+{}", grown->hits) : "not reported";
  };
  const auto queries = [](const std::optional<PrefixCounters>& grown) {
    return grown ? fmt::format("+{}", grown->queries) : "not reported";
  };
  std::string text = fmt::format("model {}, prompt of {} tokens, block size {}\n", finding.model,
                                 seen.prompt_tokens, OrUnknown(seen.block_size));
  if (seen.kv_cache_dtype || finding.kv_scale_source) {
    text += fmt::format("KV cache {}, scales: {}\n", OrUnknown(seen.kv_cache_dtype),
                        OrUnknown(finding.kv_scale_source));
  }
  text += Row("", "first", "second");
  text +=
      Row("time to first token", Milliseconds(seen.ttft_first_s), Milliseconds(seen.ttft_second_s));
  text +=
      Row("total time", Milliseconds(finding.first.total_s), Milliseconds(finding.second.total_s));
  text += Row("cached tokens", OrUnknown(seen.cached_first), OrUnknown(seen.cached_second));
  text += Row("prefix_cache_queries_total", queries(seen.grown_first), queries(seen.grown_second));
  text += Row("prefix_cache_hits_total", hits(seen.grown_first), hits(seen.grown_second));
  const char* other = finding.verdict.close_text ? "close" : "DIFFERS";
  text += fmt::format("text {}\n", seen.same_text ? "identical" : other);
  for (const std::string& warning : finding.verdict.warnings) {
    text += fmt::format("warning: {}\n", warning);
  }
  text += fmt::format("{}: {}\n", finding.verdict.pass ? "PASS" : "FAIL", finding.verdict.reason);
  return text;
}

int CheckFailed(const Status& status) {
  fmt::print(stderr, "kvserve check-cache: {}\n", status.message());
  return ExitCodeOf(status.code());
}

}  // namespace

int RunCheckCache(const CheckCacheCommand& command) {
  const auto url = ParseUrl(command.url);
  if (!url) return CheckFailed(url.error());
  const auto finding = CacheCheck(command, *url).Run();
  if (!finding) return CheckFailed(finding.error());
  const std::string report = command.json ? JsonReport(*finding) : TextReport(*finding);
  std::fwrite(report.data(), 1, report.size(), stdout);
  std::fflush(stdout);
  return finding->verdict.pass ? 0 : 1;
}

}  // namespace kvs
