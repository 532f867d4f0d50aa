// One GET or HEAD on a connection of its own, with the target sent and the headers received byte
// for byte: a signed redirect is worth nothing after a round of decoding. (cpp-httplib 0.11 decodes
// %XX in header values, which is why this does not use it.)
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kvserve/status.h"
#include "net/tcp_stream.h"
#include "net/url.h"

namespace kvs {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct FetchResponse {
  int status = 0;
  HttpHeaders headers;
  std::string body;  // of a streamed response: empty

  // The first header of that name, whatever its case; empty when there is none.
  std::string_view Header(std::string_view name) const;
};

struct FetchRequest {
  const char* method = "GET";
  std::string target;  // path and query, percent-encoded; begins with a slash
  HttpHeaders headers;
  size_t body_bytes_max = 1u << 20;  // of a body that is not streamed; a longer one is cut
  // Both or neither. `on_head` sees status and headers and says whether the body is to be streamed
  // to `on_data`, which ends it by returning false; the response so far is then the result.
  std::function<bool(const FetchResponse& head)> on_head;
  std::function<bool(std::string_view piece)> on_data;
};

// `bearer` goes out as "Authorization: Bearer"; empty: no such header. Any status is a result;
// redirects are not followed. kUnavailable when there was no complete response; the message names
// method, server and path, but never the query, which may hold a signature. kConfigError for a
// proxy that cannot be used.
Result<FetchResponse> Fetch(const Url& server, const std::string& bearer,
                            const FetchRequest& request, const ProxyOptions& proxies = {},
                            const StreamTimeouts& timeouts = {});

}  // namespace kvs
