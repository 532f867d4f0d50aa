// What a streamed token costs between the engine's channel and the socket: detokenizing, the SSE
// event, HTTP framing, the write, and the thread's wake-up.
//
//   http_bench [STREAMS [TOKENS_PER_STREAM [TOKENS_PER_SECOND_AND_STREAM]]]
//
// Defaults: 64 streams, 2000 tokens each, as fast as they are taken (0). The clients are a process
// of their own, the pushing thread's time is subtracted: what is left is the server's CPU time.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/log.h"
#include "engine/engine_handle.h"
#include "http/server.h"
#include "kvserve/check.h"
#include "tokenize/tokenizer.h"

namespace kvs {
namespace {

using std::chrono::steady_clock;

struct CpuTime {
  double user = 0;    // seconds
  double system = 0;  // seconds: socket writes and wake-ups

  CpuTime operator-(const CpuTime& other) const {
    return {user - other.user, system - other.system};
  }
};

CpuTime CpuTimeOf(int who) {
  rusage usage{};
  getrusage(who, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return {seconds(usage.ru_utime), seconds(usage.ru_stime)};
}

// Gives every request the same text, token by token, once all streams have begun.
class PushingEngine final : public EngineHandle {
 public:
  PushingEngine(std::vector<TokenId> text, size_t num_streams, uint32_t tokens_per_second)
      : text_(std::move(text)), num_streams_(num_streams), rate_(tokens_per_second) {
    info_.max_model_len = 1u << 30;
    info_.vocab_size = 1u << 20;
    info_.kv_pool_tokens = 1u << 30;
    thread_ = std::thread([this] { Run(); });
  }
  ~PushingEngine() override { KVS_CHECK(!thread_.joinable()); }

  const EngineInfo& info() const override { return info_; }
  Result<std::vector<std::shared_ptr<TokenChannel>>> Submit(
      std::vector<Request> requests, std::shared_ptr<ChannelSignal> signal) override {
    const std::lock_guard lock(mutex_);
    std::vector<std::shared_ptr<TokenChannel>> channels;
    for (const Request& request : requests) {
      max_tokens_ = request.sampling.max_tokens;
      channels.push_back(std::make_shared<TokenChannel>(1u << 20, signal));
      channels_.push_back(channels.back());
    }
    return channels;
  }
  Result<ResetResult> ResetPrefixCache() override { return ResetResult{true, 0}; }
  double SecondsSinceHeartbeat() const override { return 0; }
  bool accepting() const override { return true; }

  // Of the pushing thread, once it has ended.
  CpuTime Join() {
    thread_.join();
    return cpu_time_;
  }

 private:
  bool AllThere() {
    const std::lock_guard lock(mutex_);
    return channels_.size() == num_streams_;
  }

  void Run() {
    while (!AllThere()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const auto begin = steady_clock::now();
    for (uint32_t position = 0; position < max_tokens_; ++position) {
      if (rate_ > 0) {
        std::this_thread::sleep_until(begin + std::chrono::duration_cast<steady_clock::duration>(
                                                  std::chrono::duration<double>(position) / rate_));
      }
      for (const auto& channel : channels_) {
        TokenEvent event;
        event.has_token = true;
        event.token = text_[position % text_.size()];
        if (position + 1 == max_tokens_) event.finish = FinishReason::kLength;
        KVS_CHECK(channel->Push(std::move(event)));
      }
      for (const auto& channel : channels_) channel->signal()->Notify();
    }
    cpu_time_ = CpuTimeOf(RUSAGE_THREAD);
  }

  const std::vector<TokenId> text_;
  const size_t num_streams_;
  const uint32_t rate_;
  EngineInfo info_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<TokenChannel>> channels_;  // guarded by mutex_ until all are there
  uint32_t max_tokens_ = 0;
  CpuTime cpu_time_;
  std::thread thread_;
};

// One client: 0 once the stream has ended whole.
int ReadStream(uint16_t port, uint32_t num_tokens) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return 1;
  const std::string body =
      R"({"prompt":"a","stream":true,"max_tokens":)" + std::to_string(num_tokens) + "}";
  const std::string request =
      "POST /v1/completions HTTP/1.1\r\nHost: bench\r\nConnection: close\r\nContent-Length: " +
      std::to_string(body.size()) + "\r\n\r\n" + body;
  if (send(fd, request.data(), request.size(), 0) < 0) return 1;
  std::string tail;
  std::vector<char> buffer(1 << 16);
  for (ssize_t n = recv(fd, buffer.data(), buffer.size(), 0); n > 0;
       n = recv(fd, buffer.data(), buffer.size(), 0)) {
    tail.append(buffer.data(), static_cast<size_t>(n));
    if (tail.size() > 64) tail.erase(0, tail.size() - 64);
  }
  close(fd);
  return tail.find("data: [DONE]") == std::string::npos ? 1 : 0;
}

int RunClients(uint16_t port, size_t num_streams, uint32_t num_tokens) {
  std::atomic<int> num_failed{0};
  std::vector<std::thread> clients;
  for (size_t i = 0; i < num_streams; ++i) {
    clients.emplace_back([&] { num_failed += ReadStream(port, num_tokens); });
  }
  for (std::thread& client : clients) client.join();
  return num_failed;
}

int Run(size_t num_streams, uint32_t num_tokens, uint32_t rate) {
  InitLog({.level = "warning", .format = LogFormat::kText});
  ServerContext context;
  context.options.port = 0;
  context.options.max_connections = static_cast<uint32_t>(num_streams) + 8;
  context.served_model_names = {"bench"};
  auto server = HttpServer::Bind(context.options);
  KVS_CHECK(server.has_value());
  // Forked before any thread exists; the bound port already takes connections.
  const pid_t clients = fork();
  if (clients == 0) _exit(RunClients((*server)->port(), num_streams, num_tokens) == 0 ? 0 : 1);

  const auto tokenizer = Tokenizer::Load(KVS_SOURCE_DIR "/models/default");
  KVS_CHECK(tokenizer.has_value());
  auto text = (*tokenizer)
                  ->Encode(
                      "The quick brown fox jumps over the lazy dog, and \"then\" it "
                      "sleeps.\nAgain: caf\u00e9!\n");
  KVS_CHECK(text.has_value());
  MetricsRegistry metrics;
  PushingEngine engine(*std::move(text), num_streams, rate);
  std::thread serving([&] { (void)(*server)->Serve(context, **tokenizer, engine, metrics); });
  const auto begin = steady_clock::now();
  const CpuTime before = CpuTimeOf(RUSAGE_SELF);
  int status = 0;
  waitpid(clients, &status, 0);
  const CpuTime pushing = engine.Join();
  const CpuTime cpu = CpuTimeOf(RUSAGE_SELF) - before - pushing;
  const double wall = std::chrono::duration<double>(steady_clock::now() - begin).count();
  (*server)->Stop();
  serving.join();
  const double tokens = static_cast<double>(num_streams) * num_tokens;
  std::printf(
      "%zu streams x %u tokens: server CPU per token %.2f us user + %.2f us system, %.0f "
      "tokens/s\n",
      num_streams, num_tokens, cpu.user / tokens * 1e6, cpu.system / tokens * 1e6, tokens / wall);
  if (status != 0) std::fprintf(stderr, "a stream did not end whole\n");
  return status == 0 ? 0 : 1;
}

}  // namespace
}  // namespace kvs

int main(int argc, char** argv) {
  const auto argument = [&](int index, int otherwise) {
    return index < argc ? std::atoi(argv[index]) : otherwise;
  };
  return kvs::Run(static_cast<size_t>(argument(1, 64)), static_cast<uint32_t>(argument(2, 2000)),
                  static_cast<uint32_t>(argument(3, 0)));
}
