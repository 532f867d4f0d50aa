// Routes: what this server answers, by path and method. Guards every route but health with the API
// keys, numbers requests, and writes the access log and the HTTP metrics.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/metrics.h"
#include "engine/engine_handle.h"
#include "http/api_keys.h"
#include "http/http_message.h"
#include "http/openai_parse.h"
#include "http/server.h"
#include "tokenize/tokenizer.h"

namespace kvs {

// An engine that has finished no round for so long is taken for dead.
inline constexpr double kHeartbeatSeconds = 30;

// Now, since 1970, as "created" in an answer says it.
int64_t UnixSeconds();

class Routes final : public HttpService {
 public:
  // All arguments outlive it.
  Routes(const ServerContext& context, const Tokenizer& tokenizer, EngineHandle& engine,
         MetricsRegistry& metrics);

  std::optional<HttpResponse> CheckHead(HttpRequest& request) override;
  HttpResponse Handle(const HttpRequest& request) override;
  HttpResponse Refuse(const HttpRequest& request, int status, const std::string& message) override;
  void Answered(const HttpRequest& request, const HttpResponse& response, bool complete) override;

  // From now on /readyz and new generations are answered 503.
  void BeginDrain() { draining_.store(true); }

  enum class Guard : uint8_t { kOpen, kKey };
  struct Route {
    const char* methods;  // separated by ", ", as in Allow; GET implies HEAD
    const char* path;     // one that ends with '/' takes a name after it
    Guard guard;
    bool generates;  // refused while draining
    HttpResponse (Routes::*handler)(const HttpRequest&);
  };
  static const std::vector<Route>& Table();

 private:
  HttpResponse Health(const HttpRequest& request);
  HttpResponse Readiness(const HttpRequest& request);
  HttpResponse Version(const HttpRequest& request);
  HttpResponse Metrics(const HttpRequest& request);
  HttpResponse ServerInfo(const HttpRequest& request);
  HttpResponse Models(const HttpRequest& request);
  HttpResponse OneModel(const HttpRequest& request);
  HttpResponse Completions(const HttpRequest& request);
  HttpResponse ChatCompletions(const HttpRequest& request);
  HttpResponse Tokenize(const HttpRequest& request);
  HttpResponse Detokenize(const HttpRequest& request);
  HttpResponse ResetPrefixCache(const HttpRequest& request);

  static const Route* Find(std::string_view path);
  ParseContext ParseContextOf(const HttpRequest& request);
  std::string ModelJson(const std::string& name) const;
  bool engine_alive() const;
  uint64_t DrawSeed();
  Counter& RequestCounter(const char* route, int status);

  const ServerContext& context_;
  const Tokenizer& tokenizer_;
  EngineHandle& engine_;
  MetricsRegistry& metrics_;
  const ApiKeys keys_;
  const int64_t started_;  // Unix time, seconds
  Histogram& params_n_;
  std::atomic<bool> draining_{false};
  std::atomic<uint64_t> num_seeds_{0};
  std::atomic<uint64_t> num_requests_{0};
  std::mutex mutex_;
  std::map<std::pair<const char*, int>, Counter*> counters_;  // guarded by mutex_
};

}  // namespace kvs
