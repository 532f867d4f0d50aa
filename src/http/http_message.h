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
#include "stream/channel_signal.h"

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

// A body that is sent while it is made: the seam between what an answer says and who writes it.
// Used by one thread at a time; no call waits.
class StreamedBody {
 public:
  virtual ~StreamedBody() = default;
  // Adds to `out` what can be sent by now. True once that was the end. An exception leaves the body
  // incomplete: the connection is then cut, so that the client cannot take what it got for the
  // whole.
  virtual bool Advance(std::string& out) = 0;
  // Instead of any further Advance: nobody reads the rest.
  virtual void Abandon() = 0;
  // Notified when Advance may have something to add.
  virtual ChannelSignal& signal() = 0;
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
  std::shared_ptr<StreamedBody> stream;  // when set, the body instead of `body`
  std::shared_ptr<TokenCounts> tokens;   // final once the body is written; null: nothing generated
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
