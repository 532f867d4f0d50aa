// A server on a free port of the loopback, and a client that sends exactly the bytes it is told to.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "fake_engine.h"
#include "fake_tokenizer.h"
#include "http/server.h"

namespace kvs::testing {

class RawClient {
 public:
  explicit RawClient(uint16_t port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  struct Adopt {
    int fd;
  };
  explicit RawClient(Adopt connected) : fd_(connected.fd), connected_(true) {}
  ~RawClient() { Close(); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  bool connected() const { return connected_; }
  int fd() const { return fd_; }

  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }

  // What arrives up to the end of `mark`; all there was when the server closes or time is over.
  std::string ReadUntil(std::string_view mark, int timeout_ms = 5000) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
    size_t found = received_.find(mark);
    while (found == std::string::npos && Fill(deadline)) found = received_.find(mark);
    return Take(found == std::string::npos ? received_.size() : found + mark.size());
  }
  std::string ReadAll(int timeout_ms = 5000) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
    while (Fill(deadline)) {
    }
    return Take(received_.size());
  }
  // One whole answer: by its length, or by the end of its chunks.
  std::string ReadAnswer(int timeout_ms = 5000) {
    std::string answer = ReadUntil("\r\n\r\n", timeout_ms);
    const size_t length_at = answer.find("Content-Length: ");
    if (length_at == std::string::npos) return answer + ReadUntil("\r\n0\r\n\r\n", timeout_ms);
    const size_t length = std::stoull(answer.substr(length_at + 16));
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
    while (received_.size() < length && Fill(deadline)) {
    }
    return answer + Take(std::min(length, received_.size()));
  }
  bool closed_by_server() const { return closed_; }

  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }

 private:
  // False when nothing more arrived.
  bool Fill(std::chrono::steady_clock::time_point deadline) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    pollfd fd = {fd_, POLLIN, 0};
    if (left.count() <= 0 || poll(&fd, 1, static_cast<int>(left.count())) <= 0) return false;
    char buffer[16384];
    const ssize_t num_read = recv(fd_, buffer, sizeof buffer, 0);
    closed_ = num_read <= 0;
    if (!closed_) received_.append(buffer, static_cast<size_t>(num_read));
    return !closed_;
  }
  std::string Take(size_t size) {
    std::string taken = received_.substr(0, size);
    received_.erase(0, size);
    return taken;
  }

  int fd_;
  std::string received_;
  bool connected_ = false;
  bool closed_ = false;
};

inline std::string GetText(std::string_view path, std::string_view headers = {}) {
  return "GET " + std::string(path) + " HTTP/1.1\r\nHost: test\r\n" + std::string(headers) + "\r\n";
}

inline std::string PostText(std::string_view path, std::string_view body,
                            std::string_view headers = {}) {
  return "POST " + std::string(path) +
         " HTTP/1.1\r\nHost: test\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" +
         std::string(headers) + "\r\n" + std::string(body);
}

inline int StatusOf(std::string_view answer) {
  if (answer.substr(0, 9) != "HTTP/1.1 ") return -1;
  return std::stoi(std::string(answer.substr(9, 3)));
}

inline bool Eventually(const std::function<bool()>& condition, int timeout_ms = 5000) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  while (std::chrono::steady_clock::now() < deadline) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return false;
}

class HttpServerTest : public ::testing::Test {
 protected:
  HttpServerTest() {
    context_.options.port = 0;
    context_.options.max_connections = 64;
    context_.served_model_names = {"tiny", "also-tiny"};
    context_.model_root = "/models/tiny";
    context_.version = "1.2.3";
    context_.server_info = [] { return R"({"kv_cache_dtype":"fp8_e4m3"})"; };
  }
  ~HttpServerTest() override { StopServer(); }

  void Start() {
    auto bound = HttpServer::Bind(context_.options);
    ASSERT_TRUE(bound) << bound.error().message();
    server_ = *std::move(bound);
    thread_ = std::thread([this] {
      const auto served = server_->Serve(context_, tokenizer_, engine_, metrics_);
      EXPECT_TRUE(served);
    });
    ASSERT_TRUE(Eventually([this] { return StatusOf(Ask(GetText("/health"))) == 200; }));
  }
  void StopServer() {
    if (!thread_.joinable()) return;
    server_->Stop();
    thread_.join();
  }

  // One request on a connection of its own.
  std::string Ask(std::string_view request) {
    RawClient client(server_->port());
    if (!client.Send(request)) return {};
    return client.ReadAnswer();
  }

  ServerContext context_;
  FakeTokenizer tokenizer_;
  FakeEngine engine_;
  MetricsRegistry metrics_;
  std::unique_ptr<HttpServer> server_;
  std::thread thread_;
};

}  // namespace kvs::testing
