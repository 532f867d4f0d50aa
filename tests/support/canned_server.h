// A server on 127.0.0.1 whose answers a test writes: a function from request to raw bytes.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "kvserve/check.h"

namespace kvs {

struct CannedRequest {
  std::string head;  // request line and header lines
  std::string body;
};

class CannedServer {
 public:
  // Returns the whole response in the pieces in which it is to be sent; the connection is closed
  // after it. Called from one thread for each connection.
  using Handler = std::function<std::vector<std::string>(const CannedRequest&)>;

  explicit CannedServer(Handler handler) : handler_(std::move(handler)) {
    listener_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* raw = reinterpret_cast<sockaddr*>(&address);
    KVS_CHECK(bind(listener_, raw, size) == 0 && listen(listener_, 64) == 0);
    KVS_CHECK(getsockname(listener_, raw, &size) == 0);
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { AcceptAll(); });
  }

  ~CannedServer() {
    shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    for (std::thread& thread : connections_) thread.join();
    close(listener_);
  }

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }

  // What came so far, in the order in which it came.
  std::vector<CannedRequest> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  void AcceptAll() {
    while (true) {
      const int connection = accept(listener_, nullptr, nullptr);
      if (connection < 0) return;
      connections_.emplace_back([this, connection] {
        Answer(connection);
        close(connection);
      });
    }
  }

  void Answer(int connection) {
    CannedRequest request;
    if (!Receive(connection, &request)) return;
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(request);
    }
    for (const std::string& piece : handler_(request)) {
      if (send(connection, piece.data(), piece.size(), MSG_NOSIGNAL) < 0) return;
    }
  }

  static bool Receive(int connection, CannedRequest* request) {
    std::string bytes;
    char buffer[4096];
    while (true) {
      const size_t head_end = bytes.find("\r\n\r\n");
      if (head_end != std::string::npos) {
        request->head = bytes.substr(0, head_end);
        const size_t field = request->head.find("Content-Length: ");
        const size_t length =
            field == std::string::npos ? 0 : std::stoul(request->head.substr(field + 16));
        request->body = bytes.substr(head_end + 4);
        if (request->body.size() >= length) return true;
      }
      const ssize_t size = recv(connection, buffer, sizeof(buffer), 0);
      if (size <= 0) return false;
      bytes.append(buffer, static_cast<size_t>(size));
    }
  }

  Handler handler_;
  mutable std::mutex mutex_;
  std::vector<CannedRequest> requests_;  // guarded by mutex_
  int listener_ = -1;
  uint16_t port_ = 0;
  std::thread acceptor_;
  std::vector<std::thread> connections_;  // of the acceptor until it is joined
};

inline std::string CannedResponse(int status, const std::string& body,
                                  const std::string& type = "application/json") {
  return "HTTP/1.1 " + std::to_string(status) + " X\r\nContent-Type: " + type +
         "\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
         body;
}

// A chunked text/event-stream, one chunk and one piece for each event.
inline std::vector<std::string> CannedStream(const std::vector<std::string>& events) {
  std::vector<std::string> pieces = {
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"
      "Transfer-Encoding: chunked\r\n\r\n"};
  for (const std::string& event : events) {
    const std::string text = "data: " + event + "\n\n";
    char size[16];
    std::snprintf(size, sizeof(size), "%zx\r\n", text.size());
    pieces.push_back(size + text + "\r\n");
  }
  pieces.push_back("0\r\n\r\n");
  return pieces;
}

}  // namespace kvs
