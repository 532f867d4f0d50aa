#include "net/tcp_stream.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>
#include <system_error>

namespace kvs {
namespace {

constexpr size_t kProxyHeadBytesMax = 16u << 10;

struct FreeAddresses {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};
struct FreeSsl {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  void operator()(SSL* ssl) const { SSL_free(ssl); }
};

tl::unexpected<Status> Unavailable(std::string reason) {
  return Error(Code::kUnavailable, std::move(reason));
}

std::string ReasonOf(int error) { return std::generic_category().message(error); }

bool IsIpAddress(const std::string& host) {
  unsigned char bytes[sizeof(in6_addr)];
  return inet_pton(AF_INET, host.c_str(), bytes) == 1 ||
         inet_pton(AF_INET6, host.c_str(), bytes) == 1;
}

// Zero, or the error number.
int ConnectWithin(int fd, const addrinfo& address, int timeout_s) {
  fcntl(fd, F_SETFL, O_NONBLOCK);
  if (connect(fd, address.ai_addr, address.ai_addrlen) != 0) {
    if (errno != EINPROGRESS) return errno;
    pollfd ready{fd, POLLOUT, 0};
    const int count = poll(&ready, 1, timeout_s * 1000);
    if (count < 0) return errno;
    if (count == 0) return ETIMEDOUT;
    int error = 0;
    socklen_t size = sizeof(error);
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) return error;
  }
  fcntl(fd, F_SETFL, 0);
  return 0;
}

}  // namespace

struct TcpStream::Impl {
  StreamTimeouts timeouts;
  int fd = -1;
  std::unique_ptr<SSL_CTX, FreeSsl> context;
  std::unique_ptr<SSL, FreeSsl> ssl;

  ~Impl() {
    ssl.reset();
    if (fd >= 0) close(fd);
  }

  Result<void> ConnectSocket(const Url& url);
  // Asks the proxy at the other end for a connection to `url`.
  Result<void> OpenTunnel(const Url& url, const Proxy& proxy);
  Result<std::string> ReadProxyHead();
  Result<void> StartTls(const std::string& host);
  tl::unexpected<Status> Failed(int result) const;
};

Result<void> TcpStream::Impl::ConnectSocket(const Url& url) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  const std::string port = std::to_string(url.port);
  const int rc = getaddrinfo(url.host.c_str(), port.c_str(), &hints, &list);
  if (rc != 0) return Unavailable(fmt::format("the host is not known ({})", gai_strerror(rc)));
  const std::unique_ptr<addrinfo, FreeAddresses> addresses(list);
  int error = ENETUNREACH;
  for (const addrinfo* address = list; address != nullptr; address = address->ai_next) {
    fd = socket(address->ai_family, address->ai_socktype | SOCK_CLOEXEC, address->ai_protocol);
    if (fd < 0) {
      error = errno;
      continue;
    }
    error = ConnectWithin(fd, *address, timeouts.connect_s);
    if (error == 0) break;
    close(fd);
    fd = -1;
  }
  if (error == ETIMEDOUT) {
    return Unavailable(fmt::format("no connection within {} s", timeouts.connect_s));
  }
  if (error != 0) return Unavailable(fmt::format("no connection: {}", ReasonOf(error)));
  const timeval silent{timeouts.silent_s, 0};
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silent, sizeof(silent));
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &silent, sizeof(silent));
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  return {};
}

// Byte by byte: what follows the head belongs to TLS.
Result<std::string> TcpStream::Impl::ReadProxyHead() {
  std::string head;
  while (head.size() < kProxyHeadBytesMax) {
    char c = 0;
    errno = 0;
    const ssize_t count = recv(fd, &c, 1, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return Failed(static_cast<int>(count));
    head += c;
    if (head.ends_with("\r\n\r\n")) return head;
  }
  return Unavailable("its answer is no HTTP");
}

Result<void> TcpStream::Impl::OpenTunnel(const Url& url, const Proxy& proxy) {
  const bool v6 = url.host.find(':') != std::string::npos;
  const std::string authority =
      fmt::format("{}{}{}:{}", v6 ? "[" : "", url.host, v6 ? "]" : "", url.port);
  const std::string request = fmt::format("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n{1}\r\n", authority,
                                          ProxyAuthorization(proxy));
  if (send(fd, request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size())) {
    return Unavailable("the connection broke");
  }
  const auto head = ReadProxyHead();
  if (!head) return tl::unexpected(head.error());
  const bool is_http = head->size() >= 12 && head->substr(0, 7) == "HTTP/1.";
  const std::string status = is_http ? head->substr(9, 3) : "";
  if (!status.empty() && status[0] == '2') return {};
  if (status == "407") return Unavailable("it wants USER:PASSWORD@ in front of its address (407)");
  return Unavailable(is_http ? fmt::format("it refused the connection ({})", status)
                             : "its answer is no HTTP");
}

Result<void> TcpStream::Impl::StartTls(const std::string& host) {
  context.reset(SSL_CTX_new(TLS_client_method()));
  if (!context || SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION) != 1 ||
      SSL_CTX_set_default_verify_paths(context.get()) != 1) {
    return Unavailable("the CA certificates cannot be loaded");
  }
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  ssl.reset(SSL_new(context.get()));
  const bool named =
      ssl && (IsIpAddress(host)
                  ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl.get()), host.c_str()) == 1
                  : SSL_set1_host(ssl.get(), host.c_str()) == 1 &&
                        SSL_set_tlsext_host_name(ssl.get(), host.c_str()) == 1);
  if (!named || SSL_set_fd(ssl.get(), fd) != 1) return Unavailable("TLS cannot be set up");
  ERR_clear_error();
  if (SSL_connect(ssl.get()) == 1) return {};
  const long verdict = SSL_get_verify_result(ssl.get());
  if (verdict != X509_V_OK) {
    return Unavailable(
        fmt::format("its certificate does not verify ({}); SSL_CERT_FILE may name "
                    "the CA to trust",
                    X509_verify_cert_error_string(verdict)));
  }
  return Unavailable("the TLS handshake failed; is it an http:// server?");
}

// After a read or write that gave `result` <= 0.
tl::unexpected<Status> TcpStream::Impl::Failed(int result) const {
  const int error = errno;
  const int kind = ssl ? SSL_get_error(ssl.get(), result) : SSL_ERROR_SYSCALL;
  const bool waited = kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE ||
                      (kind == SSL_ERROR_SYSCALL && (error == EAGAIN || error == EWOULDBLOCK));
  if (waited)
    return Unavailable(fmt::format("the connection was silent for {} s", timeouts.silent_s));
  if (kind == SSL_ERROR_SYSCALL && error != 0) {
    return Unavailable(fmt::format("the connection broke: {}", ReasonOf(error)));
  }
  return Unavailable("the connection was closed before the response was complete");
}

TcpStream::TcpStream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TcpStream::TcpStream(TcpStream&&) noexcept = default;
TcpStream::~TcpStream() = default;

std::string ProxyAuthorization(const Proxy& proxy) {
  const std::string& plain = proxy.credentials;
  if (plain.empty()) return {};
  std::string encoded(4 * ((plain.size() + 2) / 3) + 1, '\0');  // EVP_EncodeBlock adds a null
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(encoded.data()),
                                   reinterpret_cast<const unsigned char*>(plain.data()),
                                   static_cast<int>(plain.size()));
  encoded.resize(static_cast<size_t>(size));
  return "Proxy-Authorization: Basic " + encoded + "\r\n";
}

Result<TcpStream> TcpStream::Connect(const Url& url, const Proxy* proxy,
                                     const StreamTimeouts& timeouts) {
  // A server that goes away while we write is an error to report, not a signal to die of.
  std::signal(SIGPIPE, SIG_IGN);
  auto impl = std::make_unique<Impl>();
  impl->timeouts = timeouts;
  auto connected = impl->ConnectSocket(proxy != nullptr ? proxy->server : url);
  if (connected && proxy != nullptr && url.tls) connected = impl->OpenTunnel(url, *proxy);
  if (!connected && proxy != nullptr) {
    return tl::unexpected(connected.error().WithContext("the proxy " + proxy->server.ToString()));
  }
  KVS_RETURN_IF_ERROR(connected);
  if (url.tls) KVS_RETURN_IF_ERROR(impl->StartTls(url.host));
  return TcpStream(std::move(impl));
}

Result<void> TcpStream::Write(std::string_view bytes) {
  while (!bytes.empty()) {
    errno = 0;
    ERR_clear_error();
    const ssize_t written =
        impl_->ssl ? SSL_write(impl_->ssl.get(), bytes.data(), static_cast<int>(bytes.size()))
                   : send(impl_->fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return impl_->Failed(static_cast<int>(written));
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return {};
}

Result<size_t> TcpStream::Read(char* buffer, size_t size) {
  while (true) {
    errno = 0;
    ERR_clear_error();
    const ssize_t count = impl_->ssl ? SSL_read(impl_->ssl.get(), buffer, static_cast<int>(size))
                                     : recv(impl_->fd, buffer, size, 0);
    if (count > 0) return static_cast<size_t>(count);
    if (count < 0 && errno == EINTR) continue;
    const bool closed = impl_->ssl ? SSL_get_error(impl_->ssl.get(), static_cast<int>(count)) ==
                                         SSL_ERROR_ZERO_RETURN
                                   : count == 0;
    if (closed) return size_t{0};
    return impl_->Failed(static_cast<int>(count));
  }
}

}  // namespace kvs
