// What a streamed token costs between the engine's channel and the socket: the writer's wake-up,
// detokenizing, the SSE event, HTTP framing and the write, from the first token on. Beside it, in
// turn, what the kernel takes for the writes alone: as many bare send() calls of as many bytes to
// clients of the same kind.
//
//   http_bench [STREAMS [TOKENS_PER_STREAM [TOKENS_PER_SECOND_AND_STREAM [CLIENT_THREADS]]]]
//
// Defaults: 64 streams, 500 tokens each, 50 a second, read by one client thread. A rate of 0 is as
// fast as they are taken: then many tokens share a write, and the bare sends are left out. Clients
// are a process of their own; a reader that sleeps is woken at the sender's cost, so that a client
// thread for each stream makes every send dearer, the bare ones too.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
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

#include "base/file_descriptor.h"
#include "base/log.h"
#include "engine/engine_handle.h"
#include "http/server.h"
#include "kvserve/check.h"
#include "tokenize/tokenizer.h"

namespace kvs {
namespace {

using std::chrono::steady_clock;

constexpr int kRounds = 5;

struct Workload {
  size_t num_streams;
  uint32_t num_tokens;  // per stream
  uint32_t rate;        // tokens per second and stream; 0: unbounded
  size_t num_client_threads;

  double tokens() const { return static_cast<double>(num_streams) * num_tokens; }
  // When the tokens of a position are due.
  void WaitFor(steady_clock::time_point begin, uint32_t position) const {
    if (rate == 0) return;
    std::this_thread::sleep_until(begin + std::chrono::duration_cast<steady_clock::duration>(
                                              std::chrono::duration<double>(position) / rate));
  }
};

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

// What one round measured.
struct Round {
  CpuTime server;    // without the engine's thread
  CpuTime engine;    // the pushing thread: filling channels, waking the writer
  double bytes = 0;  // that the clients read
  double wall = 0;   // seconds
};

// Gives every request the same text, token by token, once all streams have begun.
class PushingEngine final : public EngineHandle {
 public:
  PushingEngine(std::vector<TokenId> text, const Workload& workload)
      : text_(std::move(text)), workload_(workload) {
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
    for (size_t i = 0; i < requests.size(); ++i) {
      channels.push_back(std::make_shared<TokenChannel>(1u << 20, signal));
      channels_.push_back(channels.back());
    }
    return channels;
  }
  Result<ResetResult> ResetPrefixCache() override { return ResetResult{true, 0}; }
  double SecondsSinceHeartbeat() const override { return 0; }
  bool accepting() const override { return true; }

  // Waits for the pushing thread.
  void Join() { thread_.join(); }
  // Of the process up to its first token, and of the pushing thread; after Join.
  CpuTime before() const { return before_; }
  CpuTime pushing() const { return pushing_; }

 private:
  bool AllThere() {
    const std::lock_guard lock(mutex_);
    return channels_.size() == workload_.num_streams;
  }

  void Run() {
    while (!AllThere()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::vector<std::shared_ptr<ChannelSignal>> signals;
    for (const auto& channel : channels_) signals.push_back(channel->signal());
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // the writer has them all
    before_ = CpuTimeOf(RUSAGE_SELF);
    const CpuTime own = CpuTimeOf(RUSAGE_THREAD);
    const auto begin = steady_clock::now();
    for (uint32_t position = 0; position < workload_.num_tokens; ++position) {
      workload_.WaitFor(begin, position);
      for (const auto& channel : channels_) {
        TokenEvent event;
        event.has_token = true;
        event.token = text_[position % text_.size()];
        if (position + 1 == workload_.num_tokens) event.finish = FinishReason::kLength;
        KVS_CHECK(channel->Push(std::move(event)));
      }
      ChannelSignal::NotifyAll(signals);
    }
    pushing_ = CpuTimeOf(RUSAGE_THREAD) - own;
  }

  const std::vector<TokenId> text_;
  const Workload workload_;
  EngineInfo info_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<TokenChannel>> channels_;  // guarded by mutex_ until all are there
  CpuTime before_;
  CpuTime pushing_;
  std::thread thread_;
};

FileDescriptor Connect(uint16_t port) {
  FileDescriptor fd(socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  KVS_CHECK(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  return fd;
}

// Opens `num_streams` connections, sends `request` on each and reads them to their end. Returns the
// bytes read; a stream that does not end with `tail` ends the process.
double ReadStreams(uint16_t port, size_t num_streams, const std::string& request,
                   std::string_view tail) {
  const FileDescriptor epoll(epoll_create1(0));
  std::vector<FileDescriptor> streams;
  std::vector<std::string> tails(num_streams);
  for (size_t i = 0; i < num_streams; ++i) {
    streams.push_back(Connect(port));
    KVS_CHECK(send(streams.back().get(), request.data(), request.size(), 0) >= 0);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = i;
    KVS_CHECK(epoll_ctl(epoll.get(), EPOLL_CTL_ADD, streams.back().get(), &event) == 0);
  }
  double num_bytes = 0;
  std::vector<char> buffer(1 << 16);
  for (size_t num_open = num_streams; num_open > 0;) {
    std::array<epoll_event, 64> events;
    const int num_events = epoll_wait(epoll.get(), events.data(), events.size(), -1);
    for (int i = 0; i < num_events; ++i) {
      const size_t stream = events[static_cast<size_t>(i)].data.u64;
      const ssize_t n = recv(streams[stream].get(), buffer.data(), buffer.size(), 0);
      if (n > 0) {
        num_bytes += static_cast<double>(n);
        tails[stream].append(buffer.data(), static_cast<size_t>(n));
        if (tails[stream].size() > 64) tails[stream].erase(0, tails[stream].size() - 64);
        continue;
      }
      KVS_CHECK(tails[stream].find(tail) != std::string::npos);
      streams[stream] = FileDescriptor();
      --num_open;
    }
  }
  return num_bytes;
}

// The client process: writes the bytes that all its streams read to `result`.
void RunClients(uint16_t port, const Workload& workload, const std::string& request,
                std::string_view tail, int result) {
  std::vector<double> num_bytes(workload.num_client_threads);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < workload.num_client_threads; ++i) {
    const size_t share = (workload.num_streams + i) / workload.num_client_threads;
    threads.emplace_back([&, i, share] { num_bytes[i] = ReadStreams(port, share, request, tail); });
  }
  for (std::thread& thread : threads) thread.join();
  double sum = 0;
  for (const double bytes : num_bytes) sum += bytes;
  KVS_CHECK(write(result, &sum, sizeof sum) == sizeof sum);
}

// The clients of one round, forked before the round has any thread.
class Clients {
 public:
  Clients(uint16_t port, const Workload& workload, const std::string& request,
          std::string_view tail) {
    KVS_CHECK(pipe(result_.data()) == 0);
    process_ = fork();
    if (process_ != 0) return;
    RunClients(port, workload, request, tail, result_[1]);
    _exit(0);
  }
  // The bytes read.
  double Wait() {
    int status = 0;
    waitpid(process_, &status, 0);
    KVS_CHECK(status == 0);
    double num_bytes = 0;
    KVS_CHECK(read(result_[0], &num_bytes, sizeof num_bytes) == sizeof num_bytes);
    for (const int fd : result_) close(fd);
    return num_bytes;
  }

 private:
  std::array<int, 2> result_;
  pid_t process_;
};

Round MeasureServer(const Workload& workload) {
  ServerContext context;
  context.options.port = 0;
  context.options.max_connections = static_cast<uint32_t>(workload.num_streams) + 8;
  context.served_model_names = {"bench"};
  auto server = HttpServer::Bind(context.options);
  KVS_CHECK(server.has_value());
  const std::string body =
      R"({"prompt":"a","stream":true,"max_tokens":)" + std::to_string(workload.num_tokens) + "}";
  const std::string request =
      "POST /v1/completions HTTP/1.1\r\nHost: bench\r\nConnection: close\r\nContent-Length: " +
      std::to_string(body.size()) + "\r\n\r\n" + body;
  // The bound port already takes connections.
  Clients clients((*server)->port(), workload, request, "data: [DONE]");

  const auto tokenizer = Tokenizer::Load(KVS_SOURCE_DIR "/models/default");
  KVS_CHECK(tokenizer.has_value());
  auto text = (*tokenizer)
                  ->Encode(
                      "The quick brown fox jumps over the lazy dog, and \"then\" it "
                      "sleeps.\nAgain: caf\u00e9!\n");
  KVS_CHECK(text.has_value());
  MetricsRegistry metrics;
  PushingEngine engine(*std::move(text), workload);
  std::thread serving([&] { (void)(*server)->Serve(context, **tokenizer, engine, metrics); });
  const auto begin = steady_clock::now();
  Round round;
  round.bytes = clients.Wait();
  engine.Join();
  round.engine = engine.pushing();
  round.server = CpuTimeOf(RUSAGE_SELF) - engine.before() - round.engine;
  round.wall = std::chrono::duration<double>(steady_clock::now() - begin).count();
  (*server)->Stop();
  serving.join();
  return round;
}

// The same sockets, clients and pace, `bytes_per_token` sent by nothing but send().
CpuTime MeasureBareSends(const Workload& workload, size_t bytes_per_token) {
  FileDescriptor listener(socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  KVS_CHECK(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
  KVS_CHECK(listen(listener.get(), 1024) == 0);
  KVS_CHECK(getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
  Clients clients(ntohs(address.sin_port), workload, "x", "");
  std::vector<FileDescriptor> sockets;
  while (sockets.size() < workload.num_streams) {
    sockets.emplace_back(accept(listener.get(), nullptr, nullptr));
    const int on = 1;
    setsockopt(sockets.back().get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  const std::string bytes(bytes_per_token, 'x');
  const CpuTime before = CpuTimeOf(RUSAGE_SELF);
  const auto begin = steady_clock::now();
  for (uint32_t position = 0; position < workload.num_tokens; ++position) {
    workload.WaitFor(begin, position);
    for (const FileDescriptor& fd : sockets) {
      KVS_CHECK(send(fd.get(), bytes.data(), bytes.size(), 0) > 0);
    }
  }
  const CpuTime cpu = CpuTimeOf(RUSAGE_SELF) - before;
  sockets.clear();
  clients.Wait();
  return cpu;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Medians over the rounds, in microseconds per token; the range of the sums.
void Print(const char* what, const std::vector<CpuTime>& rounds, double num_tokens) {
  std::vector<double> user, system, sum;
  for (const CpuTime& cpu : rounds) {
    user.push_back(cpu.user / num_tokens * 1e6);
    system.push_back(cpu.system / num_tokens * 1e6);
    sum.push_back(user.back() + system.back());
  }
  std::printf("%-12s %6.2f us per token (%.2f user + %.2f system), %.2f to %.2f\n", what,
              Median(sum), Median(user), Median(system), *std::min_element(sum.begin(), sum.end()),
              *std::max_element(sum.begin(), sum.end()));
}

int Run(const Workload& workload) {
  InitLog({.level = "warning", .format = LogFormat::kText});
  std::vector<CpuTime> server, engine, bare;
  Round round;
  for (int i = 0; i < kRounds; ++i) {
    round = MeasureServer(workload);
    server.push_back(round.server);
    engine.push_back(round.engine);
    if (workload.rate == 0) continue;
    const auto bytes_per_token = static_cast<size_t>(round.bytes / workload.tokens());
    bare.push_back(MeasureBareSends(workload, bytes_per_token));
  }
  std::printf(
      "%zu streams x %u tokens at %u a second, %zu client threads, %.0f bytes and %.0f "
      "tokens a second, CPU time:\n",
      workload.num_streams, workload.num_tokens, workload.rate, workload.num_client_threads,
      round.bytes / workload.tokens(), workload.tokens() / round.wall);
  Print("server", server, workload.tokens());
  if (!bare.empty()) Print("bare sends", bare, workload.tokens());
  Print("engine", engine, workload.tokens());
  return 0;
}

}  // namespace
}  // namespace kvs

int main(int argc, char** argv) {
  const auto argument = [&](int index, int otherwise) {
    return index < argc ? std::atoi(argv[index]) : otherwise;
  };
  return kvs::Run({.num_streams = static_cast<size_t>(argument(1, 64)),
                   .num_tokens = static_cast<uint32_t>(argument(2, 500)),
                   .rate = static_cast<uint32_t>(argument(3, 50)),
                   .num_client_threads = static_cast<size_t>(argument(4, 1))});
}
