// Connection: the bytes of one client, plain or TLS, with a time limit on everything that waits.
//
// Owns the socket. Used by one thread at a time. Every wait also ends when the server stops.
#pragma once

#include <openssl/ssl.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "http/listener.h"
#include "kvserve/request.h"

namespace kvs {

struct SslFree {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
};

class Connection {
 public:
  struct Context {
    int stop_fd;                        // becomes readable, for good, when the server stops
    SSL_CTX* tls;                       // null for plain HTTP
    std::chrono::seconds send_timeout;  // longest time without the client taking a byte
  };
  enum class ReadEnd : uint8_t { kNone, kClosed, kTimeout, kStopped };

  Connection(FileDescriptor socket, const Context& context);
  ~Connection() = default;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // The TLS handshake; true at once without TLS.
  bool Handshake(SteadyTime deadline);

  // Waits for the first byte of a request; false when none came.
  bool WaitReadable(SteadyTime deadline);
  // Reads what there is, at least one byte and at most `size`. 0 at the end: see read_end().
  size_t Read(char* data, size_t size, SteadyTime deadline);
  ReadEnd read_end() const { return read_end_; }
  // Sends all of it, or returns false.
  bool Write(std::string_view bytes);
  enum class Sent : uint8_t { kAll, kWaitsToWrite, kWaitsToRead, kClosed };
  // Sends what the socket takes at once and drops that from `bytes`. Never waits: says what the
  // socket must be ready for before the rest can go (reading may be needed by TLS).
  Sent WriteSome(std::string_view& bytes);
  // Whether the client has closed its side. Never waits.
  bool PeerClosed() const;
  // Ends the connection so that the client still reads what was sent last, though it may have sent
  // more than was read (a close with unread bytes would reset it).
  void CloseGently();

  int fd() const { return socket_.get(); }
  std::chrono::seconds send_timeout() const { return context_.send_timeout; }

 private:
  // Waits for `events` (POLLIN, POLLOUT). With `until_stop` false a stop only shortens the wait.
  bool Poll(short events, SteadyTime deadline, bool until_stop);
  // What a TLS call asks for: waits for it, or returns false.
  bool PollForTls(int result, SteadyTime deadline, bool until_stop);
  Sent WriteSomeTls(std::string_view& bytes);

  const FileDescriptor socket_;
  const Context context_;
  std::unique_ptr<SSL, SslFree> ssl_;
  ReadEnd read_end_ = ReadEnd::kNone;
};

}  // namespace kvs
