// An Engine over a FakeModel, and what tests need around it: requests, readers, a gate that holds
// the engine inside a step.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/metrics.h"
#include "engine/engine.h"
#include "support/fake_model.h"

namespace kvs::test {

inline constexpr TokenId kEos{2};

// 128 tokens of vocabulary, blocks of 16, 64 blocks; change before making a harness.
inline EngineOptions SmallEngineOptions() {
  EngineOptions options;
  options.scheduler.limits = {.max_num_seqs = 8,
                              .max_num_batched_tokens = 64,
                              .max_model_len = 512,
                              .max_num_logits_rows = 64,
                              .block_size = 16};
  options.scheduler.num_blocks = 64;
  options.scheduler.enable_prefix_caching = true;
  options.scheduler.eos_token_ids = {kEos};
  options.scheduler.hash_seed = 7;
  options.vocab_size = 128;
  options.kv_layout = {.num_layers = 1,
                       .num_kv_heads = 1,
                       .head_dim = 64,
                       .block_size = 16,
                       .dtype = KvCacheDType::kF8E4M3};
  options.max_num_queued_reqs = 1024;
  return options;
}

// Lets a step pass only while open.
class Gate {
 public:
  void Close() { Set(false); }
  void Open() { Set(true); }
  // Waits here while closed; whoever waits is counted.
  void Pass() {
    std::unique_lock lock(mutex_);
    if (open_) return;
    held_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
    held_ = false;
  }
  void WaitUntilHeld() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return held_; });
  }

 private:
  void Set(bool open) {
    const std::lock_guard lock(mutex_);
    open_ = open;
    changed_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = true;   // guarded by mutex_
  bool held_ = false;  // guarded by mutex_
};

struct EngineHarness {
  explicit EngineHarness(const EngineOptions& options = SmallEngineOptions(),
                         bool pipelined = false, std::optional<TokenId> nan_token = std::nullopt)
      : model({.limits = options.scheduler.limits,
               .num_blocks = options.scheduler.num_blocks,
               .vocab_size = options.vocab_size,
               .nan_token = nan_token,
               .pipelined = pipelined}) {
    model.on_forward = [this](const StepPlan&) { gate.Pass(); };
    engine = std::make_unique<Engine>(options, model, metrics);
  }
  explicit EngineHarness(bool pipelined) : EngineHarness(SmallEngineOptions(), pipelined) {}
  ~EngineHarness() { gate.Open(); }

  MetricsRegistry metrics{MetricLabels{{"model_name", "fake"}, {"engine", "0"}}};
  Gate gate;
  FakeModel model;
  std::unique_ptr<Engine> engine;
};

// A test that runs with a serial model, and with one that works behind the host.
class SerialAndPipelined : public testing::TestWithParam<bool> {};

inline std::string NameOfMode(const testing::TestParamInfo<bool>& info) {
  return info.param ? "Pipelined" : "Serial";
}

// Greedy, ignoring eos.
inline Request MakeRequest(std::vector<TokenId> prompt, uint32_t max_tokens) {
  Request request;
  request.prompt = std::move(prompt);
  request.sampling.temperature = 0.0f;
  request.sampling.max_tokens = max_tokens;
  request.sampling.ignore_eos = true;
  request.arrival = std::chrono::steady_clock::now();
  return request;
}

// A prompt that differs from those of other seeds from its first token on.
inline std::vector<TokenId> MakePrompt(uint32_t seed, uint32_t num_tokens,
                                       uint32_t vocab_size = 128) {
  std::vector<TokenId> prompt;
  uint64_t state = seed + 1;
  for (uint32_t i = 0; i < num_tokens; ++i) {
    state = state * 6364136223846793005 + 1442695040888963407;  // Knuth's MMIX generator
    prompt.push_back(TokenId{static_cast<uint32_t>(state >> 33) % vocab_size});
  }
  return prompt;
}

// All that came through one channel.
struct Received {
  std::vector<TokenEvent> events;
  bool ended = false;

  std::vector<TokenId> tokens() const {
    std::vector<TokenId> ids;
    for (const TokenEvent& event : events) {
      if (event.has_token) ids.push_back(event.token);
    }
    return ids;
  }
  const TokenEvent& last() const { return events.back(); }
};

// Reads until the last event; gives up, failing the test, after a minute.
inline Received ReadAll(TokenChannel& channel, ChannelSignal& signal) {
  Received received;
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (!(received.ended = channel.TakeAll(received.events))) {
    if (std::chrono::steady_clock::now() > give_up) {
      ADD_FAILURE() << "no last event within a minute";
      break;
    }
    signal.WaitFor(std::chrono::milliseconds(100));
  }
  return received;
}

// One request, submitted and perhaps read later.
struct Call {
  std::shared_ptr<ChannelSignal> signal = std::make_shared<ChannelSignal>();
  std::shared_ptr<TokenChannel> channel;

  Call(Engine& engine, Request request) {
    std::vector<Request> requests;
    requests.push_back(std::move(request));
    auto channels = engine.Submit(std::move(requests), signal);
    EXPECT_TRUE(channels.has_value()) << (channels ? "" : channels.error().message());
    if (channels) channel = (*channels)[0];
  }
  Received Read() { return ReadAll(*channel, *signal); }
};

// The value of the one metric line that starts with `name` and holds all of `labels`, as printed;
// fails the test when there is none.
inline double MetricValue(const MetricsRegistry& registry, const std::string& name,
                          const std::vector<std::string>& labels = {}) {
  const std::string text = registry.Serialize();
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    bool matches = line.rfind(name + "{", 0) == 0;
    for (const std::string& label : labels) {
      matches = matches && line.find(label) != std::string::npos;
    }
    if (matches) return std::stod(line.substr(line.rfind(' ') + 1));
  }
  ADD_FAILURE() << "no metric " << name;
  return -1;
}

}  // namespace kvs::test
