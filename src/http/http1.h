// Http1: HTTP/1.1 over one connection after another's bytes. The door to cpp-httplib.
//
// cpp-httplib 0.11 reads leniently: it percent-decodes header values, runs std::regex over Range,
// takes two length headers or a line without CR, and bounds neither the head nor a chunked body. So
// RequestHead reads and judges the head; the library then gets a head of ours that says only how
// the body is framed, and does what is left: it decodes the body and writes the answer.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "http/connection.h"
#include "http/http_message.h"
#include "http/stream_writer.h"

namespace kvs {

struct Http1Limits {
  uint64_t max_body_bytes = 0;
  std::chrono::seconds head_timeout{10};  // from a request's first byte, or from the accept
  std::chrono::seconds body_timeout{60};  // for the whole body
  // Between requests. Longer than the 5 s after which common clients give a connection up, so that
  // none is closed in the moment a request is sent on it.
  std::chrono::seconds keep_alive_timeout{15};
};

class Http1 {
 public:
  // `service` and `writer` outlive it.
  Http1(const Http1Limits& limits, HttpService& service, StreamWriter& writer);
  ~Http1();

  // Answers the requests of one connection until it ends. Thread-safe. `stopping` ends it after
  // the current answer and tells a waiting request that its client is gone.
  void Serve(Connection& connection, bool over_limit, const std::atomic<bool>& stopping);

  // Requests being answered now.
  uint32_t num_active() const;

 private:
  class Door;
  std::unique_ptr<Door> door_;
};

}  // namespace kvs
