#include "http/connection.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "kvserve/check.h"

namespace kvs {
namespace {

// How long a client may take to read what was sent when the server stops.
constexpr std::chrono::milliseconds kStopGrace{500};
constexpr std::chrono::milliseconds kLinger{1000};
constexpr size_t kLingerBytes = 16u << 20;

int MillisecondsUntil(SteadyTime deadline) {
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
  return static_cast<int>(std::clamp<int64_t>(left.count(), 0, 1 << 30));
}

}  // namespace

Connection::Connection(FileDescriptor socket, const Context& context)
    : socket_(std::move(socket)), context_(context) {
  const int on = 1;
  setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (context_.tls == nullptr) return;
  ssl_.reset(SSL_new(context_.tls));
  KVS_CHECK(ssl_ != nullptr);
  KVS_CHECK(SSL_set_fd(ssl_.get(), socket_.get()) == 1);
}

bool Connection::Poll(short events, SteadyTime deadline, bool until_stop) {
  bool stopped = false;
  while (true) {
    std::array<pollfd, 2> fds = {{{socket_.get(), events, 0}, {context_.stop_fd, POLLIN, 0}}};
    const int ready = poll(fds.data(), stopped ? 1 : 2, MillisecondsUntil(deadline));
    if (ready < 0 && errno == EINTR) continue;
    if (ready > 0 && fds[0].revents != 0) return true;
    if (ready <= 0) {
      read_end_ = ReadEnd::kTimeout;
      return false;
    }
    if (until_stop) {
      read_end_ = ReadEnd::kStopped;
      return false;
    }
    stopped = true;
    deadline = std::min(deadline, std::chrono::steady_clock::now() + kStopGrace);
  }
}

bool Connection::PollForTls(int result, SteadyTime deadline, bool until_stop) {
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_WANT_READ:
      return Poll(POLLIN, deadline, until_stop);
    case SSL_ERROR_WANT_WRITE:
      return Poll(POLLOUT, deadline, until_stop);
    default:
      read_end_ = ReadEnd::kClosed;
      return false;
  }
}

bool Connection::Handshake(SteadyTime deadline) {
  if (ssl_ == nullptr) return true;
  while (true) {
    ERR_clear_error();
    const int result = SSL_accept(ssl_.get());
    if (result == 1) return true;
    if (!PollForTls(result, deadline, /*until_stop=*/true)) return false;
  }
}

bool Connection::WaitReadable(SteadyTime deadline) {
  if (ssl_ != nullptr && SSL_has_pending(ssl_.get()) == 1) return true;
  return Poll(POLLIN, deadline, /*until_stop=*/true);
}

size_t Connection::Read(char* data, size_t size, SteadyTime deadline) {
  while (true) {
    if (ssl_ != nullptr) {
      ERR_clear_error();
      size_t num_read = 0;
      const int result = SSL_read_ex(ssl_.get(), data, size, &num_read);
      if (result == 1) return num_read;
      if (!PollForTls(result, deadline, /*until_stop=*/true)) return 0;
      continue;
    }
    const ssize_t num_read = recv(socket_.get(), data, size, 0);
    if (num_read > 0) return static_cast<size_t>(num_read);
    if (num_read < 0 && errno == EINTR) continue;
    if (num_read == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) {
      read_end_ = ReadEnd::kClosed;
      return 0;
    }
    if (!Poll(POLLIN, deadline, /*until_stop=*/true)) return 0;
  }
}

bool Connection::Write(std::string_view bytes) {
  while (true) {
    const Sent sent = WriteSome(bytes);
    if (sent == Sent::kAll) return true;
    if (sent == Sent::kClosed) return false;
    const short events = sent == Sent::kWaitsToRead ? POLLIN : POLLOUT;
    const SteadyTime deadline = std::chrono::steady_clock::now() + context_.send_timeout;
    if (!Poll(events, deadline, /*until_stop=*/false)) return false;
  }
}

Connection::Sent Connection::WriteSome(std::string_view& bytes) {
  if (ssl_ != nullptr) return WriteSomeTls(bytes);
  while (!bytes.empty()) {
    const ssize_t sent = send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes.remove_prefix(static_cast<size_t>(sent));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return Sent::kWaitsToWrite;
    } else if (errno != EINTR) {
      return Sent::kClosed;
    }
  }
  return Sent::kAll;
}

Connection::Sent Connection::WriteSomeTls(std::string_view& bytes) {
  while (!bytes.empty()) {
    ERR_clear_error();
    size_t num_sent = 0;
    const int result = SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &num_sent);
    if (result == 1) {
      bytes.remove_prefix(num_sent);
      continue;
    }
    switch (SSL_get_error(ssl_.get(), result)) {
      case SSL_ERROR_WANT_READ:
        return Sent::kWaitsToRead;
      case SSL_ERROR_WANT_WRITE:
        return Sent::kWaitsToWrite;
      default:
        return Sent::kClosed;
    }
  }
  return Sent::kAll;
}

bool Connection::PeerClosed() const {
  pollfd fd = {socket_.get(), POLLRDHUP, 0};
  return poll(&fd, 1, 0) > 0 && (fd.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

void Connection::CloseGently() {
  if (ssl_ != nullptr) {
    ERR_clear_error();
    SSL_shutdown(ssl_.get());
  }
  shutdown(socket_.get(), SHUT_WR);
  const SteadyTime deadline = std::chrono::steady_clock::now() + kLinger;
  std::array<char, 16384> unread;
  size_t num_unread = 0;
  while (num_unread < kLingerBytes && Poll(POLLIN, deadline, /*until_stop=*/true)) {
    const ssize_t num_read = recv(socket_.get(), unread.data(), unread.size(), 0);
    if (num_read == 0 || (num_read < 0 && errno != EAGAIN && errno != EINTR)) return;
    num_unread += num_read > 0 ? static_cast<size_t>(num_read) : 0;
  }
}

}  // namespace kvs
