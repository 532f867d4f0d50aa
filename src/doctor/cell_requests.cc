#include "doctor/cell_requests.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <thread>

#include "client/completions_api.h"
#include "net/http_client.h"

namespace kvs {
namespace {

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr uint32_t kOutputTokens = 24;
constexpr uint32_t kLogprobs = 10;
constexpr uint32_t kContinuationTokens = 37;
constexpr int kCounterPolls = 20;
constexpr std::chrono::milliseconds kCounterPollInterval(25);

// Some blocks, and a few tokens that fill none.
uint32_t PromptTokens(uint32_t block_size) { return std::max(6 * 16u, 2 * block_size) + 5; }

std::string BodyOf(const CellRequest& request) {
  const Json body = {{"prompt", request.prompt},
                     {"max_tokens", request.max_tokens},
                     {"min_tokens", request.max_tokens},
                     {"ignore_eos", true},
                     {"temperature", 0},
                     {"logprobs", kLogprobs}};
  return body.dump();
}

Result<CellAnswer> Send(HttpClient& http, const CellRequest& request) {
  const auto start = Clock::now();
  const auto response = http.Post("/v1/completions", BodyOf(request));
  if (!response) return tl::unexpected(response.error());
  if (response->status != 200) return tl::unexpected(StatusOfResponse(*response));
  auto answer = ParseCellAnswer(response->body);
  if (!answer) return answer;
  answer->name = request.name;
  answer->seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return answer;
}

std::optional<uint64_t> Hits(HttpClient& http) {
  const auto response = http.Get("/metrics");
  if (!response || response->status != 200) return std::nullopt;
  const auto counters = CacheMetricsOf(response->body).counters;
  return counters ? std::optional(counters->hits) : std::nullopt;
}

// The counter after a request; it may follow the answer by a moment.
std::optional<uint64_t> HitsAfter(HttpClient& http, uint64_t expected) {
  std::optional<uint64_t> hits = Hits(http);
  for (int poll = 0; poll < kCounterPolls && hits && *hits < expected; ++poll) {
    std::this_thread::sleep_for(kCounterPollInterval);
    hits = Hits(http);
  }
  return hits;
}

void SendAtOnce(const Url& url, const std::vector<CellRequest>& requests, CellAnswers& all) {
  std::vector<Result<CellAnswer>> results(requests.size(),
                                          Error(Code::kInternal, "the request was not sent"));
  std::vector<std::thread> threads;
  for (size_t i = 0; i < requests.size(); ++i) {
    threads.emplace_back([&, i] {
      HttpClient http(url, "");
      results[i] = Send(http, requests[i]);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (Result<CellAnswer>& result : results) {
    if (!result && !all.error) all.error = result.error();
    if (result) all.at_once.push_back(*std::move(result));
  }
}

}  // namespace

uint32_t TokensPerText(uint32_t block_size) {
  return PromptTokens(block_size) + kContinuationTokens;
}

uint32_t PositionsPerRequest(uint32_t block_size) {
  return TokensPerText(block_size) + kOutputTokens;
}

std::vector<CellRequest> MakeCellRequests(const std::vector<std::vector<uint32_t>>& texts,
                                          uint32_t block_size) {
  const uint32_t prompt_tokens = PromptTokens(block_size);
  const uint32_t reusable = (prompt_tokens - 1) / block_size * block_size;
  std::vector<CellRequest> requests;
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto begin = texts[i].begin();
    const std::vector<uint32_t> prompt(begin, begin + prompt_tokens);
    const std::vector<uint32_t> longer(begin, begin + TokensPerText(block_size));
    const std::string name = fmt::format("text {}", i + 1);
    requests.push_back({name + ", cold", prompt, kOutputTokens, 0});
    requests.push_back({name + ", repeated", prompt, kOutputTokens, reusable});
    requests.push_back({name + ", continued", longer, kOutputTokens, reusable});
  }
  return requests;
}

void CellProgress::Enter(size_t index) {
  request = index;
  since = Clock::now().time_since_epoch().count();
}

Clock::duration CellProgress::InFlight() const {
  return Clock::now().time_since_epoch() - Clock::duration(since.load());
}

CellAnswers SendCellRequests(const Url& url, const std::vector<CellRequest>& requests,
                             CellProgress& progress) {
  CellAnswers all;
  HttpClient http(url, "");
  std::optional<uint64_t> hits = Hits(http);
  for (size_t i = 0; i < requests.size(); ++i) {
    progress.Enter(i);
    auto answer = Send(http, requests[i]);
    if (!answer) {
      all.error = answer.error();
      return all;
    }
    const auto after = HitsAfter(http, hits.value_or(0) + answer->cached_tokens);
    if (hits && after && *after >= *hits) answer->hit_growth = *after - *hits;
    hits = after;
    all.answers.push_back(*std::move(answer));
  }
  progress.Enter(requests.size());
  std::vector<CellRequest> continued;
  for (const CellRequest& request : requests) {
    if (request.prompt.size() == requests.back().prompt.size()) continued.push_back(request);
  }
  SendAtOnce(url, continued, all);
  return all;
}

Result<CellAnswer> ParseCellAnswer(const std::string& body) {
  try {
    const Json json = Json::parse(body);
    CellAnswer answer;
    const Json& usage = json.at("usage");
    usage.at("prompt_tokens").get_to(answer.prompt_tokens);
    usage.at("prompt_tokens_details").at("cached_tokens").get_to(answer.cached_tokens);
    const Json& logprobs = json.at("choices").at(0).at("logprobs");
    const Json& texts = logprobs.at("tokens");
    for (size_t i = 0; i < texts.size(); ++i) {
      AnsweredToken& token = answer.tokens.emplace_back();
      texts.at(i).get_to(token.text);
      logprobs.at("token_logprobs").at(i).get_to(token.logprob);
      for (const auto& [text, logprob] : logprobs.at("top_logprobs").at(i).items()) {
        token.top[text] = logprob.get<double>();
      }
    }
    return answer;
  } catch (const Json::exception& error) {
    return Error(Code::kDataError,
                 fmt::format("the answer is not a completion with logprobs: {}", error.what()));
  }
}

}  // namespace kvs
