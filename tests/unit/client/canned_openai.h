// An OpenAI-compatible server in a few lines, with a prefix cache that can be told to misbehave.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "support/canned_server.h"

namespace kvs {

struct CannedOpenAiOptions {
  bool prefix_caching = true;
  bool reports_cached_tokens = true;
  bool has_metrics = true;
  bool has_tokenize = true;
  bool same_text = true;      // else each response says something new
  bool has_logprobs = false;  // where they are asked for: any word is 0.25 nats less likely
  bool refuses_logprobs = false;
  bool promises_bits = false;  // by /server_info
  int fail_every = 0;          // every n-th completion is a 503
  std::string api_key = {};
};

class CannedOpenAi {
 public:
  static constexpr uint32_t kBlockSize = 16;
  static constexpr uint32_t kMaxModelLen = 8192;

  explicit CannedOpenAi(const CannedOpenAiOptions& options)
      : options_(options), server_([this](const CannedRequest& r) { return Answer(r); }) {}

  std::string url() const { return server_.url(); }

  // Bodies of /v1/completions so far.
  std::vector<nlohmann::json> asks() {
    const std::lock_guard lock(mutex_);
    return asks_;
  }

 private:
  std::vector<std::string> Answer(const CannedRequest& request) {
    const std::lock_guard lock(mutex_);
    const std::string line = request.head.substr(0, request.head.find("\r\n"));
    if (!options_.api_key.empty() && request.head.find("Authorization: Bearer " + options_.api_key +
                                                       "\r\n") == std::string::npos) {
      return {CannedResponse(401, R"({"error":{"message":"no such key"}})")};
    }
    if (line == "GET /v1/models HTTP/1.1") {
      return {
          CannedResponse(200, R"({"data":[{"id":"canned","max_model_len":8192},{"id":"other"}]})")};
    }
    if (line == "GET /metrics HTTP/1.1" && options_.has_metrics) {
      return {CannedResponse(200, Metrics(), "text/plain")};
    }
    if (line == "GET /server_info HTTP/1.1" && options_.promises_bits) {
      return {CannedResponse(200, R"({"batch_invariant":true})")};
    }
    if (line == "POST /tokenize HTTP/1.1" && options_.has_tokenize) {
      const auto words = Words(nlohmann::json::parse(request.body)["prompt"]);
      return {CannedResponse(200, nlohmann::json({{"tokens", words}}).dump())};
    }
    if (line == "POST /v1/completions HTTP/1.1") return Complete(request);
    return {CannedResponse(404, R"({"error":"no such route"})")};
  }

  std::vector<std::string> Complete(const CannedRequest& request) {
    const auto ask = nlohmann::json::parse(request.body);
    asks_.push_back(ask);
    if (options_.fail_every > 0 && asks_.size() % options_.fail_every == 0) {
      return {CannedResponse(503, R"({"error":{"message":"too busy"}})")};
    }
    if (options_.refuses_logprobs && ask.contains("logprobs")) {
      return {CannedResponse(400, R"({"error":{"message":"logprobs is not allowed"}})")};
    }
    const auto& prompt = ask["prompt"];
    const auto ids = prompt.is_string() ? Words(prompt) : prompt.get<std::vector<uint32_t>>();
    const uint32_t cached = options_.prefix_caching ? Reuse(ids) : 0;
    const uint32_t max_tokens = ask["max_tokens"];
    std::vector<std::string> events;
    for (uint32_t i = 0; i < max_tokens; ++i) {
      std::string text = " w";
      if (!options_.same_text) text += std::to_string(asks_.size());
      nlohmann::json choice = {{"text", text}, {"finish_reason", nullptr}};
      if (i + 1 == max_tokens) choice["finish_reason"] = "length";
      if (options_.has_logprobs && ask.contains("logprobs")) choice["logprobs"] = Logprobs(text);
      events.push_back(nlohmann::json({{"choices", {choice}}}).dump());
    }
    nlohmann::json usage = {{"prompt_tokens", ids.size()}, {"completion_tokens", max_tokens}};
    if (options_.reports_cached_tokens) usage["prompt_tokens_details"]["cached_tokens"] = cached;
    events.push_back(
        nlohmann::json({{"choices", nlohmann::json::array()}, {"usage", usage}}).dump());
    events.push_back("[DONE]");
    return CannedStream(events);
  }

  static nlohmann::json Logprobs(const std::string& chosen) {
    nlohmann::json top;
    for (int i = 0; i < 10; ++i) top[" w" + std::to_string(i)] = -0.75;
    top[chosen] = -0.5;
    return {{"tokens", {chosen}}, {"token_logprobs", {-0.5}}, {"top_logprobs", {top}}};
  }

  // A token for each word.
  std::vector<uint32_t> Words(const std::string& text) {
    std::vector<uint32_t> ids;
    for (size_t begin = text.find(' '); begin != std::string::npos;) {
      const size_t end = text.find(' ', begin + 1);
      const auto id = static_cast<uint32_t>(vocabulary_.size());
      ids.push_back(vocabulary_.emplace(text.substr(begin, end - begin), id).first->second);
      begin = end;
    }
    return ids;
  }

  uint32_t Reuse(const std::vector<uint32_t>& ids) {
    uint32_t cached = 0;
    bool matching = true;
    for (uint32_t end = kBlockSize; end <= ids.size(); end += kBlockSize) {
      const std::vector<uint32_t> prefix(ids.begin(), ids.begin() + end);
      matching = matching && end < ids.size() && blocks_.count(prefix) > 0;
      if (matching) cached = end;
      blocks_.insert(prefix);
    }
    queries_ += ids.size();
    hits_ += cached;
    return cached;
  }

  std::string Metrics() const {
    return "vllm:cache_config_info{block_size=\"16\",enable_prefix_caching=\"" +
           std::string(options_.prefix_caching ? "True" : "False") + "\"} 1\n" +
           "vllm:prefix_cache_queries_total " + std::to_string(queries_) +
           "\nvllm:prefix_cache_hits_total " + std::to_string(hits_) + "\n";
  }

  const CannedOpenAiOptions options_;
  std::mutex mutex_;
  std::vector<nlohmann::json> asks_;
  std::map<std::string, uint32_t> vocabulary_;
  std::set<std::vector<uint32_t>> blocks_;
  uint64_t queries_ = 0;
  uint64_t hits_ = 0;
  CannedServer server_;  // last: its threads use the above
};

}  // namespace kvs
