#include "hub/hub_connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <thread>
#include <utility>

#include "base/log.h"

namespace kvs {
namespace {

constexpr int kRedirectsMax = 8;
constexpr char kNoNetworkAdvice[] =
    "without a network, give the directory of a model, or set HF_HUB_OFFLINE=1 to serve one that "
    "is "
    "in the cache";

bool IsRedirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

bool IsSameOrigin(const Url& a, const Url& b) {
  return a.tls == b.tls && a.host == b.host && a.port == b.port;
}

// What a server says, fit for a message.
std::string Shown(std::string_view text) {
  constexpr size_t kBytesMax = 300;
  return EscapeControl(text.substr(0, kBytesMax));
}

}  // namespace

Result<HubConnection> HubConnection::Make(const HubOptions& options, const RetryPolicy& retry) {
  auto endpoint = ParseUrl(options.endpoint);
  if (!endpoint) {
    return Error(Code::kConfigError, "HF_ENDPOINT: " + endpoint.error().message(), "HF_ENDPOINT");
  }
  return HubConnection(options, *std::move(endpoint), retry);
}

Result<Address> HubConnection::NextAddress(const Address& from,
                                           const FetchResponse& redirect) const {
  const std::string_view location = redirect.Header("Location");
  const auto refuse = [&](std::string_view why) {
    return Error(Code::kDataError,
                 fmt::format("{}{}: redirected to '{}': {}", from.server.ToString(), from.target,
                             Shown(location.substr(0, location.find('?'))), why));
  };
  Result<Address> next = from;
  if (location.substr(0, 2) == "//") {
    next = ParseAddress((from.server.tls ? "https:" : "http:") + std::string(location));
  } else if (location.substr(0, 1) == "/") {
    next = ParseAddress(from.server.ToString() + std::string(location));
  } else {
    next = ParseAddress(location);
  }
  if (!next) return refuse("that is no address");
  if (from.server.tls && !next->server.tls) return refuse("that is not HTTPS");
  return next;
}

Result<FetchResponse> HubConnection::Once(const std::string& path, FetchRequest fetch,
                                          Follow follow) {
  Url server = endpoint_;
  server.root.clear();
  Address address{server, endpoint_.root + path};
  for (int hop = 0; hop <= kRedirectsMax; ++hop) {
    fetch.target = address.target;
    auto response =
        kvs::Fetch(address.server, IsSameOrigin(address.server, endpoint_) ? options_.token : "",
                   fetch, options_.proxy);
    if (!response || !IsRedirect(response->status)) return response;
    auto next = NextAddress(address, *response);
    if (!next) return tl::unexpected(std::move(next).error());
    if (follow == Follow::kOnTheHub && !IsSameOrigin(next->server, endpoint_)) return response;
    address = *std::move(next);
  }
  return Error(Code::kDataError, fmt::format("{}{}: more than {} redirects", endpoint_.ToString(),
                                             path, kRedirectsMax));
}

bool HubConnection::IsPassing(const Result<FetchResponse>& response) {
  if (!response) return response.error().code() == Code::kUnavailable;
  const int status = response->status;
  return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 ||
         status == 504;
}

void HubConnection::WaitBefore(int number, const Result<FetchResponse>& last) const {
  std::chrono::milliseconds delay = retry_.first_delay * (1 << std::min(number - 1, 10));
  const std::string_view asked = last ? last->Header("Retry-After") : std::string_view();
  uint32_t seconds = 0;
  const auto parsed = std::from_chars(asked.data(), asked.data() + asked.size(), seconds);
  if (parsed.ec == std::errc()) delay = std::max(delay, std::chrono::milliseconds(1000) * seconds);
  std::this_thread::sleep_for(std::min(delay, retry_.delay_max));
}

Result<FetchResponse> HubConnection::Fetch(const HubQuestion& question, const std::string& path,
                                           const FetchRequest& fetch, Follow follow) {
  for (int attempt = 1;; ++attempt) {
    auto response = Once(path, fetch, follow);
    if (IsPassing(response) && attempt < retry_.attempts) {
      WaitBefore(attempt, response);
      continue;
    }
    if (response && response->status >= 200 && response->status < 400) return response;
    return tl::unexpected(StatusOf(question, response));
  }
}

Status HubConnection::StatusOf(const HubQuestion& question,
                               const Result<FetchResponse>& response) const {
  if (response) return RefusalOf(question, *response);
  const Status& status = response.error();
  if (status.code() != Code::kUnavailable) {
    return status.WithContext(fmt::format("model '{}'", question.model));
  }
  return Status(Code::kUnavailable,
                fmt::format("model '{}': the Hub cannot be reached: {}; {}", question.model,
                            status.message(), kNoNetworkAdvice));
}

Status HubConnection::RefusalOf(const HubQuestion& question, const FetchResponse& response) const {
  const std::string_view code = response.Header("X-Error-Code");
  const std::string said = Shown(response.Header("X-Error-Message"));
  const std::string& model = question.model;
  const int status = response.status;
  const bool has_token = !options_.token.empty();
  if (code == "GatedRepo") {
    return Status(
        Code::kUnauthenticated,
        fmt::format("model '{0}' is gated: ask for access at {1}/{0}, then set HF_TOKEN to "
                    "a token of the account that has it ({2})",
                    model, options_.endpoint,
                    has_token ? "the token that is set has no access" : "none is set"));
  }
  if (code == "RevisionNotFound") {
    return Status(Code::kNotFound,
                  fmt::format("--revision: model '{}' has no branch, tag or commit '{}'", model,
                              question.revision),
                  "--revision");
  }
  if (code == "EntryNotFound") {
    return Status(Code::kNotFound, fmt::format("model '{}' has no file '{}' at '{}'", model,
                                               question.file, question.revision));
  }
  if (status == 401 && has_token && code != "RepoNotFound") {
    return Status(
        Code::kUnauthenticated,
        fmt::format("HF_TOKEN: {} refused the token (401{}{}); make a new one at {}/"
                    "settings/tokens, or unset it for a public model",
                    options_.endpoint, said.empty() ? "" : ": ", said, options_.endpoint));
  }
  // The Hub does not say whether a model exists to whom may not see it.
  if (code == "RepoNotFound" || status == 401 || status == 404) {
    return Status(status == 401 ? Code::kUnauthenticated : Code::kNotFound,
                  fmt::format("there is no directory '{0}', and no model '{0}' on {1}; check the "
                              "spelling, or for a private model {2}",
                              model, options_.endpoint,
                              has_token ? "that the account of HF_TOKEN may read it"
                                        : "set HF_TOKEN to a token that may read it"));
  }
  if (status == 403) {
    return Status(Code::kUnauthenticated,
                  fmt::format("model '{}': {} denies access (403{}{}); check what the token in "
                              "HF_TOKEN may read",
                              model, options_.endpoint, said.empty() ? "" : ": ", said));
  }
  return Status(Code::kUnavailable,
                fmt::format("model '{}': {} answered {}{}{}; try again later, or set "
                            "HF_HUB_OFFLINE=1 to serve a model that is in the cache",
                            model, options_.endpoint, status, said.empty() ? "" : ": ", said));
}

}  // namespace kvs
