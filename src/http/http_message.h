// What a route sees of HTTP: plain values, no sockets. HttpService is implemented by Routes and
// called by the connection threads, so a route is tested by calling it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kvserve/request.h"

namespace kvs {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;   // as sent; a token
  std::string path;     // percent-decoded, without the query; begins with '/'
  HttpHeaders headers;  // names in lower case, values trimmed
  std::string body;     // empty until CheckHead let it be read
  std::string id;       // set by CheckHead: X-Request-Id or generated
  SteadyTime arrival{};
  // The connection came when max_connections were open: only health is answered.
  bool over_limit = false;
  // Whether the client has closed its connection, or the server is stopping. Never waits.
  std::function<bool()> client_gone = [] { return false; };

  // The first header of that name (in lower case); null when there is none.
  const std::string* FindHeader(std::string_view name) const {
    for (const auto& [key, value] : headers) {
      if (key == name) return &value;
    }
    return nullptr;
  }
};

// Where a streamed body goes, piece by piece.
class BodySink {
 public:
  virtual ~BodySink() = default;
  // Sends all of it. False once the client is gone or has not read for --send-timeout.
  virtual bool Write(std::string_view bytes) = 0;
  virtual bool ClientGone() = 0;
};

// For the access log.
struct TokenCounts {
  uint32_t prompt = 0;
  uint32_t output = 0;
  uint32_t cached = 0;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  HttpHeaders headers;  // besides Content-Type and what frames the body
  std::string body;
  // When set, it writes the body instead; false when the body is not complete: the connection is
  // then cut, so that the client cannot take what it got for the whole.
  std::function<bool(BodySink&)> stream;
  std::shared_ptr<TokenCounts> tokens;  // final once the body is written; null: nothing generated
};

// Thread-safe: every connection thread calls it.
class HttpService {
 public:
  virtual ~HttpService() = default;

  // With the head alone, before the body is read: gives the request its id; an answer refuses it.
  virtual std::optional<HttpResponse> CheckHead(HttpRequest& request) = 0;
  // The whole request, whose head passed CheckHead.
  virtual HttpResponse Handle(const HttpRequest& request) = 0;
  // The answer to a request that is not well-formed HTTP or is too large. `request` has what was
  // understood of it.
  virtual HttpResponse Refuse(const HttpRequest& request, int status,
                              const std::string& message) = 0;
  // After the last byte of the answer; `complete` is false when the client did not get all of it.
  virtual void Answered(const HttpRequest& request, const HttpResponse& response,
                        bool complete) = 0;
};

}  // namespace kvs
