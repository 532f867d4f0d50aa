#include "http/server.h"

#include <sys/eventfd.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <system_error>
#include <utility>

#include "base/log.h"
#include "http/connection.h"
#include "http/connection_threads.h"
#include "http/http1.h"
#include "http/listener.h"
#include "http/routes.h"
#include "http/stream_writer.h"
#include "kvserve/check.h"

namespace kvs {
namespace {

// Threads beyond max_connections: they answer health, and 503 to all else.
constexpr uint32_t kRefusalThreads = 16;

class HttpServerImpl final : public HttpServer {
 public:
  HttpServerImpl(Listener listener, TlsContext tls, FileDescriptor stop)
      : port_(listener.port()),
        listener_(std::move(listener)),
        tls_(std::move(tls)),
        stop_(std::move(stop)) {}
  ~HttpServerImpl() override { Stop(); }

  uint16_t port() const override { return port_; }
  Result<void> Serve(const ServerContext& context, const Tokenizer& tokenizer, EngineHandle& engine,
                     MetricsRegistry& metrics) override;
  void BeginDrain() override;
  void Stop() override;
  uint32_t num_active_requests() const override;

 private:
  void AcceptUntilStop(const HttpOptions& options, Http1& http);
  void SetServing(Routes* routes, Http1* http);

  const uint16_t port_;
  Listener listener_;
  const TlsContext tls_;
  const FileDescriptor stop_;  // readable, for good, once Stop was called
  std::atomic<bool> stopping_{false};

  mutable std::mutex mutex_;
  std::condition_variable served_;
  bool draining_ = false;     // guarded by mutex_
  Routes* routes_ = nullptr;  // guarded by mutex_; not null while serving
  Http1* http_ = nullptr;     // guarded by mutex_; not null while serving
};

Result<void> HttpServerImpl::Serve(const ServerContext& context, const Tokenizer& tokenizer,
                                   EngineHandle& engine, MetricsRegistry& metrics) {
  KVS_CHECK(context.options.max_connections > 0);
  KVS_CHECK(!context.served_model_names.empty());
  Routes routes(context, tokenizer, engine, metrics);
  Http1Limits limits;
  limits.max_body_bytes = context.options.max_body_bytes;
  StreamWriter writer(stop_.get());
  Http1 http(limits, routes, writer);
  SetServing(&routes, &http);
  AcceptUntilStop(context.options, http);
  SetServing(nullptr, nullptr);
  return {};
}

void HttpServerImpl::SetServing(Routes* routes, Http1* http) {
  const std::lock_guard lock(mutex_);
  routes_ = routes;
  http_ = http;
  if (routes != nullptr && draining_) routes->BeginDrain();
  served_.notify_all();
}

void HttpServerImpl::AcceptUntilStop(const HttpOptions& options, Http1& http) {
  const Connection::Context context{stop_.get(), tls_.get(),
                                    std::chrono::seconds(options.send_timeout_s)};
  std::atomic<uint32_t> num_open{0};
  ConnectionThreads threads(options.max_connections + kRefusalThreads);
  while (auto accepted = listener_.Accept(stop_.get())) {
    const bool over_limit = num_open.fetch_add(1) >= options.max_connections;
    const auto socket = std::make_shared<FileDescriptor>(*std::move(accepted));
    const bool started = threads.Start([this, &context, &http, &num_open, socket, over_limit] {
      {
        Connection connection(std::move(*socket), context);
        http.Serve(connection, over_limit, stopping_);
      }
      num_open.fetch_sub(1);
    });
    if (!started) num_open.fetch_sub(1);  // and the socket closes
  }
  threads.Join();
}

void HttpServerImpl::BeginDrain() {
  const std::lock_guard lock(mutex_);
  draining_ = true;
  if (routes_ != nullptr) routes_->BeginDrain();
}

void HttpServerImpl::Stop() {
  stopping_.store(true);
  const uint64_t one = 1;
  KVS_CHECK(write(stop_.get(), &one, sizeof one) == sizeof one);
  std::unique_lock lock(mutex_);
  served_.wait(lock, [this] { return http_ == nullptr; });
}

uint32_t HttpServerImpl::num_active_requests() const {
  const std::lock_guard lock(mutex_);
  return http_ != nullptr ? http_->num_active() : 0;
}

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::Bind(const HttpOptions& options) {
  std::signal(SIGPIPE, SIG_IGN);  // a client that left is an error of its write, never a signal
  TlsContext tls;
  if (!options.ssl_certfile.empty() || !options.ssl_keyfile.empty()) {
    auto loaded = LoadTlsContext(options.ssl_certfile, options.ssl_keyfile);
    if (!loaded) return tl::unexpected(std::move(loaded).error());
    tls = *std::move(loaded);
  }
  auto listener = Listener::Bind(options.host, options.port);
  if (!listener) return tl::unexpected(std::move(listener).error());
  FileDescriptor stop(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop.valid()) {
    return Error(Code::kOsError, std::string("eventfd: ") + std::generic_category().message(errno));
  }
  return std::make_unique<HttpServerImpl>(*std::move(listener), std::move(tls), std::move(stop));
}

}  // namespace kvs
