#include "http/routes.h"

#include <fmt/format.h>
#include <openssl/rand.h>

#include <algorithm>
#include <chrono>

#include "base/log.h"
#include "http/api_error.h"
#include "kvserve/check.h"

namespace kvs {
namespace {

constexpr size_t kMaxRequestIdBytes = 128;
constexpr char kOtherRoute[] = "other";

std::string RandomId() {
  std::array<unsigned char, 16> bytes;
  KVS_CHECK(RAND_bytes(bytes.data(), bytes.size()) == 1);
  std::string id;
  for (const unsigned char byte : bytes) id += fmt::format("{:02x}", byte);
  return id;
}

// The client's name for its request, where it is one that a log line can carry.
std::string RequestIdOf(const HttpRequest& request) {
  const std::string* asked = request.FindHeader("x-request-id");
  const bool usable =
      asked != nullptr && !asked->empty() && asked->size() <= kMaxRequestIdBytes &&
      std::all_of(asked->begin(), asked->end(), [](char c) { return c > 0x20 && c < 0x7f; });
  return usable ? *asked : RandomId();
}

bool Allows(const Routes::Route& route, std::string_view method) {
  if (method == "HEAD") method = "GET";
  std::string_view list = route.methods;
  while (!list.empty()) {
    const size_t end = std::min(list.find(", "), list.size());
    if (list.substr(0, end) == method) return true;
    list.remove_prefix(std::min(end + 2, list.size()));
  }
  return false;
}

ApiError UnknownPath(const std::string& path) {
  std::string known;
  for (const Routes::Route& route : Routes::Table()) {
    known += fmt::format("{}{} {}", known.empty() ? "" : ", ", route.methods, route.path);
  }
  return ErrorOfStatus(404, fmt::format("there is no '{}' here; known: {}", path, known));
}

}  // namespace

int64_t UnixSeconds() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(now).count();
}

const std::vector<Routes::Route>& Routes::Table() {
  static const std::vector<Route> table = {
      {"POST", "/v1/completions", Guard::kKey, true, &Routes::Completions},
      {"POST", "/v1/chat/completions", Guard::kKey, true, &Routes::ChatCompletions},
      {"GET", "/v1/models", Guard::kKey, false, &Routes::Models},
      {"GET", "/v1/models/", Guard::kKey, false, &Routes::OneModel},
      {"POST", "/tokenize", Guard::kKey, false, &Routes::Tokenize},
      {"POST", "/detokenize", Guard::kKey, false, &Routes::Detokenize},
      {"POST", "/reset_prefix_cache", Guard::kKey, false, &Routes::ResetPrefixCache},
      {"GET", "/health", Guard::kOpen, false, &Routes::Health},
      {"GET", "/livez", Guard::kOpen, false, &Routes::Health},
      {"GET", "/readyz", Guard::kOpen, false, &Routes::Readiness},
      {"GET, POST", "/ping", Guard::kKey, false, &Routes::Health},
      {"GET", "/version", Guard::kKey, false, &Routes::Version},
      {"GET", "/metrics", Guard::kKey, false, &Routes::Metrics},
      {"GET", "/server_info", Guard::kKey, false, &Routes::ServerInfo},
  };
  return table;
}

Routes::Routes(const ServerContext& context, const Tokenizer& tokenizer, EngineHandle& engine,
               MetricsRegistry& metrics)
    : context_(context),
      tokenizer_(tokenizer),
      engine_(engine),
      metrics_(metrics),
      keys_(context.options.api_keys),
      started_(UnixSeconds()),
      params_n_(metrics.AddHistogram("vllm:request_params_n",
                                     "Generations asked for per prompt (n).", {1, 2, 5, 10, 20})) {}

const Routes::Route* Routes::Find(std::string_view path) {
  for (const Route& route : Table()) {
    const std::string_view known = route.path;
    const bool takes_name = known.back() == '/';
    if (takes_name ? path.size() > known.size() && path.substr(0, known.size()) == known
                   : path == known) {
      return &route;
    }
  }
  return nullptr;
}

std::optional<HttpResponse> Routes::CheckHead(HttpRequest& request) {
  request.id = RequestIdOf(request);
  const auto refuse = [&](const ApiError& error) {
    HttpResponse response = ToResponse(error);
    response.headers.emplace_back("X-Request-Id", request.id);
    return response;
  };
  const Route* route = Find(request.path);
  const bool open = route != nullptr && route->guard == Guard::kOpen;
  if (!open && keys_.enabled() && !keys_.Check(request.FindHeader("authorization"))) {
    return refuse(ErrorOfStatus(401, "an API key is needed: 'Authorization: Bearer KEY'"));
  }
  if (!open && request.over_limit) {
    return refuse(Overloaded("every connection of this server is in use; try again"));
  }
  if (route == nullptr) return refuse(UnknownPath(request.path));
  if (!Allows(*route, request.method)) {
    HttpResponse response = refuse(ErrorOfStatus(
        405, fmt::format("'{}' takes {}, not {}", request.path, route->methods, request.method)));
    response.headers.emplace_back("Allow", route->methods);
    return response;
  }
  if (route->generates && draining_.load()) {
    return refuse(Overloaded("the server is shutting down"));
  }
  return std::nullopt;
}

HttpResponse Routes::Handle(const HttpRequest& request) {
  const Route* route = Find(request.path);
  KVS_CHECK(route != nullptr);  // CheckHead refuses the others
  HttpResponse response = (this->*route->handler)(request);
  response.headers.emplace_back("X-Request-Id", request.id);
  return response;
}

HttpResponse Routes::Refuse(const HttpRequest& request, int status, const std::string& message) {
  HttpResponse response = ToResponse(ErrorOfStatus(status, message));
  if (!request.id.empty()) response.headers.emplace_back("X-Request-Id", request.id);
  return response;
}

void Routes::Answered(const HttpRequest& request, const HttpResponse& response, bool complete) {
  const Route* route = Find(request.path);
  RequestCounter(route != nullptr ? route->path : kOtherRoute, response.status).Add();
  if (!LogEnabled(LogLevel::kInfo)) return;
  const auto took = std::chrono::steady_clock::now() - request.arrival;
  std::string line =
      fmt::format("{} {} {} {:.1f} ms id={}", request.method.empty() ? "-" : request.method,
                  request.path.empty() ? "-" : request.path.substr(0, 256), response.status,
                  std::chrono::duration<double, std::milli>(took).count(),
                  request.id.empty() ? "-" : request.id);
  if (response.tokens != nullptr) {
    const TokenCounts& tokens = *response.tokens;
    line += fmt::format(" prompt_tokens={} output_tokens={} cached_tokens={}", tokens.prompt,
                        tokens.output, tokens.cached);
  }
  if (!complete) line += " (the client left)";
  LOG_INFO("{}", line);
}

bool Routes::engine_alive() const { return engine_.SecondsSinceHeartbeat() <= kHeartbeatSeconds; }

// SplitMix64 (Steele, Lea, Flood 2014): the n-th number of a stream.
uint64_t Routes::DrawSeed() {
  constexpr uint64_t kGamma = 0x9e3779b97f4a7c15;
  uint64_t z = context_.request_seed + (num_seeds_.fetch_add(1) + 1) * kGamma;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

Counter& Routes::RequestCounter(const char* route, int status) {
  const std::lock_guard lock(mutex_);
  Counter*& counter = counters_[{route, status}];
  if (counter == nullptr) {
    counter = &metrics_.AddCounter("kvserve_http_requests_total", "HTTP requests answered.",
                                   {{"route", route}, {"status", std::to_string(status)}});
  }
  return *counter;
}

}  // namespace kvs
