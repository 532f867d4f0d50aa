// HttpServer: the routes, the connection threads and their limits. The only door to cpp-httplib on
// the serving side.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "engine/engine_handle.h"
#include "http/chat_settings.h"
#include "kvserve/options.h"
#include "kvserve/status.h"
#include "tokenize/tokenizer.h"

namespace kvs {

struct ServerContext {
  HttpOptions options;                          // resolved: max_connections is set
  std::vector<std::string> served_model_names;  // the first is the one answered with
  std::string model_root;                       // what was asked for, for /v1/models "root"
  std::string version;
  std::function<std::string()> server_info;  // body of GET /server_info; thread-safe
  ChatSettings chat;
  uint64_t request_seed = 0;  // draws seeds for requests that give none
};

class HttpServer {
 public:
  // Binds the address at once (kCannotBind when it is taken or not permitted), so that a bad port
  // fails before a model is loaded; nothing is answered before Serve.
  static Result<std::unique_ptr<HttpServer>> Bind(const HttpOptions& options);
  virtual ~HttpServer() = default;
  // The bound port; the one that was free when options.port is 0.
  virtual uint16_t port() const = 0;

  // Answers until Stop. The references outlive the server.
  virtual Result<void> Serve(const ServerContext& context, const Tokenizer& tokenizer,
                             EngineHandle& engine, MetricsRegistry& metrics) = 0;
  // Thread-safe. /readyz turns 503 and new generation requests are refused with 503; Stop then
  // closes the socket and returns once every handler has.
  virtual void BeginDrain() = 0;
  virtual void Stop() = 0;
  virtual uint32_t num_active_requests() const = 0;
};

}  // namespace kvs
