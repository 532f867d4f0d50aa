// Listener: the socket that takes connections, and the TLS keys they are served with.
#pragma once

#include <openssl/ssl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/file_descriptor.h"
#include "kvserve/status.h"

namespace kvs {

struct SslContextFree {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
using TlsContext = std::unique_ptr<SSL_CTX, SslContextFree>;

// Server keys from PEM files. The message names the file at fault.
Result<TlsContext> LoadTlsContext(const std::string& certfile, const std::string& keyfile);

class Listener {
 public:
  // Binds and listens; connections wait until Accept. Port 0 takes a free one. kCannotBind when
  // the address is taken, not permitted or not of this machine.
  static Result<Listener> Bind(const std::string& host, uint16_t port);

  // Waits for a connection: a non-blocking socket. nullopt once `stop_fd` is readable. What the
  // system refuses for lack of descriptors or memory is tried again.
  std::optional<FileDescriptor> Accept(int stop_fd);

  uint16_t port() const { return port_; }

 private:
  Listener(FileDescriptor socket, uint16_t port) : socket_(std::move(socket)), port_(port) {}

  FileDescriptor socket_;
  uint16_t port_;
};

}  // namespace kvs
