// An engine that answers from a script, from a thread of its own.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/engine_handle.h"
#include "fake_tokenizer.h"

namespace kvs::testing {

class FakeEngine final : public EngineHandle {
 public:
  FakeEngine() {
    info_.max_model_len = 256;
    info_.vocab_size = 258;
    info_.kv_pool_tokens = 1024;
    info_.block_size = 16;
    thread_ = std::thread([this] { Run(); });
  }
  ~FakeEngine() override {
    stopping_ = true;
    thread_.join();
  }

  const EngineInfo& info() const override { return info_; }

  Result<std::vector<std::shared_ptr<TokenChannel>>> Submit(
      std::vector<Request> requests, std::shared_ptr<ChannelSignal> signal) override {
    const std::lock_guard lock(mutex_);
    if (full) return Error(Code::kUnavailable, "the queue is full: 7 requests wait");
    std::vector<std::shared_ptr<TokenChannel>> channels;
    for (Request& request : requests) {
      auto channel = std::make_shared<TokenChannel>(1024, signal);
      channels.push_back(channel);
      seen_.push_back(request);
      live_.push_back({std::move(request), std::move(channel), 0});
    }
    return channels;
  }

  Result<ResetResult> ResetPrefixCache() override { return reset; }
  double SecondsSinceHeartbeat() const override { return heartbeat; }
  bool accepting() const override { return !full; }

  // Every live request ends as if the engine were shutting down.
  void AbortAll() { aborting_ = true; }
  std::vector<Request> seen() const {
    const std::lock_guard lock(mutex_);
    return seen_;
  }
  int num_cancelled() const { return num_cancelled_; }
  size_t num_live() const {
    const std::lock_guard lock(mutex_);
    return live_.size();
  }

  // What a request answers with; set before the first Submit. Beyond it comes kEos; with `endless`
  // it begins again.
  std::string answer = "Hello, world";
  std::atomic<bool> endless{false};
  std::atomic<bool> silent{false};  // sends nothing until it is cancelled
  std::atomic<bool> fails{false};   // the second token is an error
  std::atomic<std::chrono::microseconds> step{std::chrono::microseconds(200)};
  EngineInfo info_;
  std::atomic<bool> full{false};
  std::atomic<double> heartbeat{0.0};
  ResetResult reset{true, 0};

 private:
  struct Live {
    Request request;
    std::shared_ptr<TokenChannel> channel;
    uint32_t position;
  };

  // Whether the request has ended.
  bool StepOne(Live& live) {
    const bool ended = PushNext(live);
    live.channel->signal()->Notify();
    return ended;
  }

  bool PushNext(Live& live) {
    TokenEvent event;
    if (live.channel->cancelled() || aborting_) {
      if (live.channel->cancelled()) ++num_cancelled_;
      event.finish = FinishReason::kCancelled;
      live.channel->Push(std::move(event));
      return true;
    }
    if (silent) return false;
    FillEvent(live, event);
    const bool last = event.finish != FinishReason::kNone;
    if (!live.channel->Push(std::move(event))) live.channel->Cancel();
    return last;
  }

  void FillEvent(Live& live, TokenEvent& event) {
    const SamplingParams& sampling = live.request.sampling;
    if (live.position == 0) {
      event.num_cached_tokens = 3;
      if (sampling.num_prompt_logprobs) event.prompt_logprobs = PromptLogprobs(live.request);
    }
    if (fails && live.position == 1) {
      event.finish = FinishReason::kError;
      event.error = "logits are not finite";
      return;
    }
    if (sampling.max_tokens == 0) {
      event.finish = FinishReason::kLength;
      return;
    }
    event.has_token = true;
    const bool at_end = !endless && live.position == answer.size();
    event.token = at_end ? kEos : TokensOf(answer)[live.position % answer.size()];
    for (const TokenId stop : sampling.stop_token_ids) {
      event.token_is_stop = event.token_is_stop || stop == event.token;
    }
    event.token_is_stop = event.token_is_stop || (at_end && !sampling.ignore_eos);
    if (event.token_is_stop) event.finish = FinishReason::kStop;
    if (sampling.num_logprobs) {
      event.logprobs = std::make_unique<PositionLogprobs>(Logprobs(event.token));
    }
    if (++live.position == sampling.max_tokens && event.finish == FinishReason::kNone) {
      event.finish = FinishReason::kLength;
    }
  }

  static PositionLogprobs Logprobs(TokenId token) {
    return {{token, -0.5f}, 1, {{token, -0.5f}, {{'z'}, -2.0f}}};
  }

  static std::unique_ptr<std::vector<PositionLogprobs>> PromptLogprobs(const Request& request) {
    auto logprobs = std::make_unique<std::vector<PositionLogprobs>>();
    for (size_t i = 1; i < request.prompt.size(); ++i) {
      logprobs->push_back(Logprobs(request.prompt[i]));
    }
    return logprobs;
  }

  void Run() {
    while (!stopping_) {
      {
        const std::lock_guard lock(mutex_);
        for (size_t i = 0; i < live_.size();) {
          if (StepOne(live_[i])) {
            live_.erase(live_.begin() + static_cast<ptrdiff_t>(i));
          } else {
            ++i;
          }
        }
      }
      std::this_thread::sleep_for(step.load());
    }
  }

  mutable std::mutex mutex_;
  std::vector<Live> live_;     // guarded by mutex_
  std::vector<Request> seen_;  // guarded by mutex_
  std::atomic<bool> stopping_{false};
  std::atomic<bool> aborting_{false};
  std::atomic<int> num_cancelled_{0};
  std::thread thread_;
};

}  // namespace kvs::testing
