#include "http/listener.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <openssl/err.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <system_error>

#include "base/log.h"

namespace kvs {
namespace {

constexpr int kBacklog = 1024;

struct AddressesFree {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};

// SO_REUSEADDR lets a restart take the port while old connections linger; SO_REUSEPORT would let a
// second daemon share it, and is therefore never set.
Result<FileDescriptor> BindOne(const addrinfo& address) {
  FileDescriptor fd(socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  if (!fd.valid() || setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      bind(fd.get(), address.ai_addr, address.ai_addrlen) != 0 || listen(fd.get(), kBacklog) != 0) {
    return Error(Code::kCannotBind, std::generic_category().message(errno));
  }
  return fd;
}

uint16_t PortOf(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  if (address.ss_family == AF_INET6) {
    return ntohs(reinterpret_cast<const sockaddr_in6&>(address).sin6_port);
  }
  return ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

std::string TlsReason() {
  const unsigned long code = ERR_peek_last_error();
  const char* reason = ERR_reason_error_string(code);
  ERR_clear_error();
  return reason != nullptr ? reason : "unknown reason";
}

Result<void> CheckReadable(const char* flag, const std::string& path) {
  if (path.empty()) {
    return Error(Code::kInvalidArgument,
                 fmt::format("{} is missing: TLS needs --ssl-certfile and --ssl-keyfile", flag),
                 flag);
  }
  if (access(path.c_str(), R_OK) == 0) return {};
  return Error(
      Code::kConfigError,
      fmt::format("{} '{}' cannot be read: {}", flag, path, std::generic_category().message(errno)),
      flag);
}

}  // namespace

Result<TlsContext> LoadTlsContext(const std::string& certfile, const std::string& keyfile) {
  KVS_RETURN_IF_ERROR(CheckReadable("--ssl-certfile", certfile));
  KVS_RETURN_IF_ERROR(CheckReadable("--ssl-keyfile", keyfile));
  TlsContext context(SSL_CTX_new(TLS_server_method()));
  if (context == nullptr) return Error(Code::kInternal, "TLS: " + TlsReason());
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_options(context.get(), SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_mode(context.get(),
                   SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  if (SSL_CTX_use_certificate_chain_file(context.get(), certfile.c_str()) != 1) {
    return Error(
        Code::kConfigError,
        fmt::format("--ssl-certfile '{}' holds no PEM certificate: {}", certfile, TlsReason()),
        "--ssl-certfile");
  }
  if (SSL_CTX_use_PrivateKey_file(context.get(), keyfile.c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(context.get()) != 1) {
    return Error(Code::kConfigError,
                 fmt::format("--ssl-keyfile '{}' holds no PEM key of the certificate '{}': {}",
                             keyfile, certfile, TlsReason()),
                 "--ssl-keyfile");
  }
  return context;
}

Result<Listener> Listener::Bind(const std::string& host, uint16_t port) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const std::string service = std::to_string(port);
  const int failed =
      getaddrinfo(host.empty() ? nullptr : host.c_str(), service.c_str(), &hints, &list);
  if (failed != 0) {
    return Error(Code::kCannotBind,
                 fmt::format("--host '{}' is not an address: {}", host, gai_strerror(failed)),
                 "--host");
  }
  const std::unique_ptr<addrinfo, AddressesFree> addresses(list);
  std::string reason = "no address";
  for (const addrinfo* address = list; address != nullptr; address = address->ai_next) {
    auto bound = BindOne(*address);
    if (bound) {
      const uint16_t bound_port = PortOf(bound->get());
      return Listener(*std::move(bound), bound_port);
    }
    reason = bound.error().message();
  }
  return Error(Code::kCannotBind, fmt::format("cannot listen on {}:{}: {}", host, port, reason),
               "--port");
}

std::optional<FileDescriptor> Listener::Accept(int stop_fd) {
  while (true) {
    std::array<pollfd, 2> fds = {{{socket_.get(), POLLIN, 0}, {stop_fd, POLLIN, 0}}};
    if (poll(fds.data(), fds.size(), -1) < 0) continue;  // EINTR
    if (fds[1].revents != 0) return std::nullopt;
    FileDescriptor accepted(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (accepted.valid()) return accepted;
    const int error = errno;
    if (error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM) {
      LOG_WARNING("cannot accept a connection: {}; trying again",
                  std::generic_category().message(error));
      pollfd stop = {stop_fd, POLLIN, 0};
      poll(&stop, 1, 100);
    }
  }
}

}  // namespace kvs
