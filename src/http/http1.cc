#include "http/http1.h"

#include <httplib.h>

#include <algorithm>
#include <array>
#include <exception>
#include <string>

#include "base/log.h"
#include "http/head_reader.h"
#include "http/request_head.h"

namespace kvs {
namespace {

using std::chrono::steady_clock;

// One request on its way through the library.
struct Exchange {
  Connection& connection;
  HttpRequest request;
  RequestHead head;
  std::optional<HttpResponse> response;
  bool read_body = false;
  bool keep_alive = false;
  bool complete = true;  // the client got the whole answer
};

// The library's handlers see neither the connection nor our request; both are this thread's.
thread_local Exchange* t_exchange = nullptr;

// Feeds the library our head, then the bytes of the body, of which no more than a limit are read.
class LibraryStream final : public httplib::Stream {
 public:
  LibraryStream(Connection& connection, std::string head, std::string& received,
                uint64_t max_raw_bytes, SteadyTime deadline)
      : connection_(connection),
        head_(std::move(head)),
        received_(received),
        raw_bytes_left_(max_raw_bytes),
        deadline_(deadline) {}

  bool is_readable() const override { return true; }
  bool is_writable() const override { return !connection_.PeerClosed(); }

  ssize_t read(char* data, size_t size) override {
    if (num_head_read_ < head_.size()) return TakeFrom(head_, num_head_read_, data, size);
    if (raw_bytes_left_ == 0) return -1;
    size = std::min<uint64_t>(size, raw_bytes_left_);
    if (num_received_read_ == received_.size() && !Fill()) return -1;
    const ssize_t taken = TakeFrom(received_, num_received_read_, data, size);
    raw_bytes_left_ -= static_cast<uint64_t>(taken);
    return taken;
  }

  ssize_t write(const char* data, size_t size) override {
    return connection_.Write({data, size}) ? static_cast<ssize_t>(size) : -1;
  }

  void get_remote_ip_and_port(std::string&, int&) const override {}
  void get_local_ip_and_port(std::string&, int&) const override {}
  // The library compares it with FD_SETSIZE, a limit of select(), which is not used here.
  socket_t socket() const override { return -1; }

  // Leaves in `received` what belongs to the next request.
  void DropRead() { received_.erase(0, num_received_read_); }

 private:
  static ssize_t TakeFrom(const std::string& from, size_t& position, char* data, size_t size) {
    const size_t taken = std::min(size, from.size() - position);
    from.copy(data, taken, position);
    position += taken;
    return static_cast<ssize_t>(taken);
  }

  bool Fill() {
    std::array<char, 16384> buffer;
    const size_t num_read = connection_.Read(buffer.data(), buffer.size(), deadline_);
    received_.assign(buffer.data(), num_read);
    num_received_read_ = 0;
    return num_read > 0;
  }

  Connection& connection_;
  const std::string head_;
  size_t num_head_read_ = 0;
  std::string& received_;
  size_t num_received_read_ = 0;
  uint64_t raw_bytes_left_;
  const SteadyTime deadline_;
};

}  // namespace

class Http1::Door : public httplib::Server {
 public:
  Door(const Http1Limits& limits, HttpService& service, StreamWriter& writer)
      : limits_(limits), service_(service), writer_(writer) {
    svr_sock_ = 0;  // the library takes INVALID_SOCKET for "shutting down"
    set_keep_alive_timeout(limits.keep_alive_timeout.count());
    set_payload_max_length(limits.max_body_bytes);
    set_post_routing_handler([this](const httplib::Request&, httplib::Response& out) {
      // What the library says of the connection is not ours: it counts requests, and does not know
      // of a body that was not read.
      out.headers.erase("Keep-Alive");
      out.headers.erase("Connection");
      if (t_exchange->keep_alive) {
        out.set_header("Keep-Alive", fmt::format("timeout={}", limits_.keep_alive_timeout.count()));
      } else {
        out.set_header("Connection", "close");
      }
    });
    set_exception_handler([this](const httplib::Request&, httplib::Response& out,
                                 const std::exception_ptr& cause) { Fail(out, cause); });
    Get("/", [this](const httplib::Request&, httplib::Response& out) { Answer(out); });
    Post("/", [this](const httplib::Request&, httplib::Response& out,
                     const httplib::ContentReader& reader) {
      if (ReadBody(reader)) {
        Answer(out);
      } else {
        Put(out);
      }
    });
  }

  void Serve(Connection& connection, bool over_limit, const std::atomic<bool>& stopping);

  std::atomic<uint32_t> num_active{0};

 private:
  bool ServeOne(Connection& connection, std::string& received, bool over_limit,
                const std::atomic<bool>& stopping);
  void Refuse(Connection& connection, int status, const std::string& message, HttpRequest request);
  void Judge(Exchange& exchange);
  bool Run(Exchange& exchange, std::string& received);
  bool ReadBody(const httplib::ContentReader& reader);
  void Answer(httplib::Response& out);
  void Put(httplib::Response& out);
  void Fail(httplib::Response& out, const std::exception_ptr& cause);
  bool WriteStream(Exchange& exchange, httplib::DataSink& sink);
  std::string LibraryHead(const Exchange& exchange) const;

  const Http1Limits limits_;
  HttpService& service_;
  StreamWriter& writer_;
};

void Http1::Door::Serve(Connection& connection, bool over_limit,
                        const std::atomic<bool>& stopping) {
  if (!connection.Handshake(steady_clock::now() + limits_.head_timeout)) return;
  std::string received;
  auto wait = limits_.head_timeout;
  while (!received.empty() || connection.WaitReadable(steady_clock::now() + wait)) {
    if (!ServeOne(connection, received, over_limit, stopping)) return;
    wait = limits_.keep_alive_timeout;
  }
}

// Whether the connection may carry another request.
bool Http1::Door::ServeOne(Connection& connection, std::string& received, bool over_limit,
                           const std::atomic<bool>& stopping) {
  HttpRequest request;
  request.arrival = steady_clock::now();
  request.over_limit = over_limit;
  auto head = ReadHead(connection, received, request.arrival + limits_.head_timeout);
  if (!head) {
    const HeadError& error = head.error();
    if (error.status != 0) Refuse(connection, error.status, error.message, std::move(request));
    return false;
  }
  request.method = head->method;
  request.path = head->path;
  request.headers = std::move(head->headers);
  request.client_gone = [&] { return stopping.load() || connection.PeerClosed(); };
  Exchange exchange{connection, std::move(request), *std::move(head), std::nullopt};
  num_active.fetch_add(1);
  Judge(exchange);
  exchange.keep_alive =
      exchange.keep_alive && exchange.head.keep_alive && !over_limit && !stopping.load();
  const bool written = Run(exchange, received);
  num_active.fetch_sub(1);
  if (!written || !exchange.keep_alive) {
    if (written) connection.CloseGently();
    return false;
  }
  return true;
}

// Answers from the head alone where that is possible. A body that is not read ends the connection.
void Http1::Door::Judge(Exchange& exchange) {
  auto refused = service_.CheckHead(exchange.request);
  if (!refused && exchange.head.content_length.value_or(0) > limits_.max_body_bytes) {
    refused = service_.Refuse(exchange.request, 413,
                              fmt::format("the body has {} bytes; at most {} are read",
                                          *exchange.head.content_length, limits_.max_body_bytes));
  }
  exchange.read_body = !refused && exchange.head.has_body() && exchange.request.method == "POST";
  exchange.keep_alive = !exchange.head.has_body() || exchange.read_body;
  exchange.response = std::move(refused);
}

std::string Http1::Door::LibraryHead(const Exchange& exchange) const {
  std::string head = exchange.read_body                  ? "POST"
                     : exchange.request.method == "HEAD" ? "HEAD"
                                                         : "GET";
  head += " / HTTP/1.1\r\n";
  if (!exchange.keep_alive || exchange.head.http_1_0) head += "Connection: close\r\n";
  if (exchange.read_body && exchange.head.chunked) head += "Transfer-Encoding: chunked\r\n";
  if (exchange.read_body && !exchange.head.chunked) {
    head += fmt::format("Content-Length: {}\r\n", *exchange.head.content_length);
  }
  return head + "\r\n";
}

// Sends the answer; false when the client did not get all of it.
bool Http1::Door::Run(Exchange& exchange, std::string& received) {
  // The library believes any end of a chunked body; what follows it is not taken for a request.
  if (exchange.head.chunked || exchange.head.http_1_0) exchange.keep_alive = false;
  // Chunk sizes and extensions at most double a body, but for one in tiny chunks.
  const uint64_t max_raw_bytes = exchange.head.chunked ? 2 * limits_.max_body_bytes + 65536
                                                       : exchange.head.content_length.value_or(0);
  LibraryStream stream(exchange.connection, LibraryHead(exchange), received, max_raw_bytes,
                       steady_clock::now() + limits_.body_timeout);
  bool closed = false;
  t_exchange = &exchange;
  const bool written = process_request(stream, !exchange.keep_alive, closed, nullptr);
  t_exchange = nullptr;
  stream.DropRead();
  exchange.complete = exchange.complete && written;
  service_.Answered(exchange.request, *exchange.response, exchange.complete);
  return exchange.complete;
}

bool Http1::Door::ReadBody(const httplib::ContentReader& reader) {
  Exchange& exchange = *t_exchange;
  std::string& body = exchange.request.body;
  body.reserve(exchange.head.content_length.value_or(0));
  if (exchange.head.expects_continue &&
      !exchange.connection.Write("HTTP/1.1 100 Continue\r\n\r\n")) {
    exchange.complete = false;
  }
  bool too_large = false;
  const bool read = reader([&](const char* data, size_t size) {
    too_large = body.size() + size > limits_.max_body_bytes;
    if (!too_large) body.append(data, size);
    return !too_large;
  });
  if (read) return true;
  exchange.keep_alive = false;
  const bool late = exchange.connection.read_end() == Connection::ReadEnd::kTimeout;
  const int status = too_large ? 413 : late ? 408 : 400;
  const std::string message =
      too_large ? fmt::format("the body is larger than {} bytes", limits_.max_body_bytes)
      : late    ? "the body did not arrive in time"
                : "the body ended early or its chunks are malformed";
  exchange.response = service_.Refuse(exchange.request, status, message);
  return false;
}

void Http1::Door::Answer(httplib::Response& out) {
  Exchange& exchange = *t_exchange;
  if (!exchange.response) exchange.response = service_.Handle(exchange.request);
  Put(out);
}

// Hands our response to the library.
void Http1::Door::Put(httplib::Response& out) {
  Exchange& exchange = *t_exchange;
  HttpResponse& response = *exchange.response;
  out.status = response.status;
  for (const auto& [name, value] : response.headers) out.set_header(name, value);
  if (response.stream == nullptr) {
    out.set_content(response.body, response.content_type);
    return;
  }
  const auto provide = [this, &exchange](size_t, httplib::DataSink& sink) {
    return WriteStream(exchange, sink);
  };
  if (exchange.head.http_1_0) {
    out.set_content_provider(response.content_type, provide);
  } else {
    out.set_chunked_content_provider(response.content_type, provide);
  }
}

// The library has sent the head and, once this is done, marks the last chunk.
bool Http1::Door::WriteStream(Exchange& exchange, httplib::DataSink& sink) {
  const auto framing =
      exchange.head.http_1_0 ? StreamWriter::Framing::kUntilClose : StreamWriter::Framing::kChunked;
  exchange.complete = writer_.Write(exchange.connection, *exchange.response->stream, framing);
  if (exchange.complete) sink.done();
  return exchange.complete;
}

// Memory that could not be had ends one request, not the others.
void Http1::Door::Fail(httplib::Response& out, const std::exception_ptr& cause) {
  Exchange& exchange = *t_exchange;
  try {
    std::rethrow_exception(cause);
  } catch (const std::exception& error) {
    LOG_ERROR("request {}: {}", exchange.request.id, error.what());
  }
  exchange.keep_alive = false;
  exchange.response = service_.Refuse(exchange.request, 500, "the server failed on this request");
  Put(out);
}

// Answers what is not well-formed HTTP; the connection ends with it.
void Http1::Door::Refuse(Connection& connection, int status, const std::string& message,
                         HttpRequest request) {
  Exchange exchange{connection, std::move(request), {}, std::nullopt};
  exchange.response = service_.Refuse(exchange.request, status, message);
  std::string nothing;
  if (Run(exchange, nothing)) connection.CloseGently();
}

Http1::Http1(const Http1Limits& limits, HttpService& service, StreamWriter& writer)
    : door_(std::make_unique<Door>(limits, service, writer)) {}
Http1::~Http1() = default;

void Http1::Serve(Connection& connection, bool over_limit, const std::atomic<bool>& stopping) {
  door_->Serve(connection, over_limit, stopping);
}

uint32_t Http1::num_active() const { return door_->num_active.load(); }

}  // namespace kvs
