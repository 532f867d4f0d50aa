// HubConnection: one thread's requests about one model to the Hub, with redirects, retries, and the
// sentence that explains a refusal. A redirect may lead to any host; the token is sent to the
// endpoint alone, and never over plain HTTP when the endpoint has TLS.
#pragma once

#include <chrono>
#include <string>

#include "kvserve/options.h"
#include "kvserve/status.h"
#include "net/http_fetch.h"

namespace kvs {

struct RetryPolicy {
  int attempts = 4;                            // without progress
  std::chrono::milliseconds first_delay{500};  // doubles with each
  std::chrono::milliseconds delay_max{30'000};
};

// What is asked about, for messages.
struct HubQuestion {
  std::string model;  // org/name
  std::string revision;
  std::string file;  // empty: the list of files
};

class HubConnection {
 public:
  enum class Follow : uint8_t { kEverywhere, kOnTheHub };

  // kConfigError when HF_ENDPOINT is no URL.
  static Result<HubConnection> Make(const HubOptions& options, const RetryPolicy& retry);

  // One attempt. `path` is below the endpoint and overrides fetch.target. With kOnTheHub a redirect
  // to another host is the response. kUnavailable as kvs::Fetch; kDataError for a redirect that
  // cannot be followed.
  Result<FetchResponse> Once(const std::string& path, FetchRequest fetch, Follow follow);

  // As many as the policy allows, until there is a response that is no passing trouble; then 2xx
  // and 3xx are results, and everything else is what StatusOf makes of it.
  Result<FetchResponse> Fetch(const HubQuestion& question, const std::string& path,
                              const FetchRequest& fetch, Follow follow);

  // Whether the same request may succeed a little later.
  static bool IsPassing(const Result<FetchResponse>& response);
  // Sleeps before attempt `number` (from 1), for as long as the response asks for, if it does.
  void WaitBefore(int number, const Result<FetchResponse>& last) const;
  // What the user should know and do. REQUIRES: no response, or one that is neither 2xx nor 3xx.
  Status StatusOf(const HubQuestion& question, const Result<FetchResponse>& response) const;

  const RetryPolicy& retry() const { return retry_; }

 private:
  HubConnection(const HubOptions& options, Url endpoint, const RetryPolicy& retry)
      : options_(options), endpoint_(std::move(endpoint)), retry_(retry) {}

  Result<Address> NextAddress(const Address& from, const FetchResponse& redirect) const;
  Status RefusalOf(const HubQuestion& question, const FetchResponse& response) const;

  HubOptions options_;
  Url endpoint_;
  RetryPolicy retry_;
};

}  // namespace kvs
