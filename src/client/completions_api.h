// OpenAI's completion API as a client sees it, with times.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "client/token_compare.h"
#include "kvserve/status.h"
#include "net/http_client.h"

namespace kvs {

struct ServedModel {
  std::string id;
  std::optional<uint32_t> max_model_len;  // tokens; not every server says
};

using PromptText = std::string;
using PromptIds = std::vector<uint32_t>;

struct CompletionAsk {
  std::string model;
  std::variant<PromptText, PromptIds> prompt;
  uint32_t max_tokens = 16;
  bool exact_length =
      false;               // generate max_tokens, whatever the model says (ignore_eos, min_tokens)
  std::string cache_salt;  // empty: none is sent
  uint32_t logprobs = 0;   // likely tokens to tell of with each token, up to 5; 0: none
};

struct Usage {
  uint32_t prompt_tokens = 0;
  uint32_t completion_tokens = 0;
  std::optional<uint32_t> cached_tokens;  // not every server says
};

// Times are seconds since the request was sent.
struct Completion {
  std::string text;
  std::string finish_reason;
  std::optional<Usage> usage;
  double first_token_s = 0.0;
  double total_s = 0.0;
  std::vector<double> gaps_s;  // between one piece of text and the next
  AnsweredTokens tokens;       // where logprobs were asked for; not every server sends them
};

// What went wrong, and a short word for counting: "transport", "http 503", "stream".
struct CompletionFailure {
  std::string kind;
  Status status;
};

// Sum over all engines and models of the server.
struct PrefixCounters {
  uint64_t queries = 0;  // tokens
  uint64_t hits = 0;     // tokens
};

struct CacheMetrics {
  std::optional<PrefixCounters> counters;
  std::optional<uint32_t> block_size;  // tokens
  std::optional<bool> enable_prefix_caching;
  std::optional<std::string> kv_cache_dtype;
  std::optional<std::string> kv_scale_source;  // kvserve alone tells
};

// Not thread-safe.
class CompletionsApi {
 public:
  CompletionsApi(const Url& url, const std::string& api_key) : http_(url, api_key) {}

  // The model named `id`; the first of /v1/models when `id` is empty. kNotFound.
  Result<ServedModel> FindModel(const std::string& id);

  // Greedy, streamed, with usage.
  tl::expected<Completion, CompletionFailure> Complete(const CompletionAsk& ask);

  // Token ids of `text` without special tokens; nullopt when the server has no /tokenize.
  std::optional<PromptIds> Tokenize(const std::string& model, const std::string& text);

  // What /metrics says under vLLM's names; all empty when the server has no such page.
  CacheMetrics ReadCacheMetrics();

  // Whether the bits of an answer depend on the request alone, and not on what is computed beside
  // it or found in a cache: kvserve tells (/server_info), others do not.
  std::optional<bool> ReadBatchInvariant();

 private:
  HttpClient http_;
};

// What the text of /metrics says; split from the request for the sake of tests.
CacheMetrics CacheMetricsOf(const std::string& metrics_text);

// The Status for a response that is not a 200: the code from the HTTP status, the message from an
// OpenAI-shaped body where there is one.
Status StatusOfResponse(const HttpResponse& response);

}  // namespace kvs
