// A connection to a server, over TLS for https URLs.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "kvserve/status.h"
#include "net/proxy.h"
#include "net/url.h"

namespace kvs {

// "Proxy-Authorization: Basic ..." with its line end; empty without credentials.
std::string ProxyAuthorization(const Proxy& proxy);

struct StreamTimeouts {
  int connect_s = 10;
  int silent_s = 30;  // without a byte in the direction that is waited for
};

// Not thread-safe. Errors are kUnavailable with the reason alone; the caller knows what it was
// doing.
class TcpStream {
 public:
  // With TLS the server's certificate must verify for url.host (OpenSSL's default store;
  // SSL_CERT_FILE names another).
  // With a `proxy` (else null) the connection is to it, and for https through it (CONNECT, RFC 9110
  // section 9.3.6).
  static Result<TcpStream> Connect(const Url& url, const Proxy* proxy,
                                   const StreamTimeouts& timeouts);
  TcpStream(TcpStream&&) noexcept;
  TcpStream& operator=(TcpStream&&) = delete;
  ~TcpStream();

  Result<void> Write(std::string_view bytes);
  // At least one byte; 0 when the server has closed the connection in order.
  Result<size_t> Read(char* buffer, size_t size);

 private:
  struct Impl;
  explicit TcpStream(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvs
