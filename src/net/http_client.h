// HTTP as a client, over TLS for https URLs. The only door to cpp-httplib on the client side.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "kvserve/status.h"
#include "net/url.h"

namespace kvs {

struct HttpResponse {
  int status = 0;
  std::string body;  // of a streamed 200: empty
};

// One connection, kept alive between requests. Not thread-safe: one client per thread.
//
// Every method is kUnavailable when there was no complete response: refused, reset, no byte for
// kReadTimeoutSeconds, a certificate that does not verify (OpenSSL's default store; SSL_CERT_FILE
// names another). Any status of a response is a result.
class HttpClient {
 public:
  static constexpr int kConnectTimeoutSeconds = 10;
  static constexpr int kReadTimeoutSeconds = 600;  // a long prompt on a slow machine

  // `api_key` goes out as "Authorization: Bearer"; empty: no such header.
  HttpClient(const Url& url, const std::string& api_key);
  ~HttpClient();

  // `path` begins with a slash and lies under the URL's root.
  Result<HttpResponse> Get(const std::string& path);
  Result<HttpResponse> Post(const std::string& path, const std::string& json_body);

  // Hands the body of a 200 to `on_data` in pieces as they arrive. When that returns false the
  // connection is closed and the response so far is the result.
  Result<HttpResponse> PostStream(const std::string& path, const std::string& json_body,
                                  const std::function<bool(std::string_view piece)>& on_data);

 private:
  struct Impl;

  std::unique_ptr<Impl> impl_;
};

}  // namespace kvs
