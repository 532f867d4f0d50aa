// Engine: the one thread that owns scheduler, model and sampler. HTTP threads hand it requests
// through a bounded inbox and read each request's events from its own channel; nothing else passes.
//
// Where the device works while the host goes on (StepRunner::is_pipelined), a step is planned and
// handed to the device while the one before runs: the device goes from one to the next without a
// gap, and the host tells clients about a step while the next one runs. Who stopped in step N is
// found while N + 1 runs, whose surplus token is dropped. Sampling of N + 1 is set up once the
// tokens of N are known, so that penalties count them; the device is still computing then.
//
// Every accepted request ends in exactly one last event, also when the engine is stopped.
// A step allocates nothing in steady state but the events it pushes: the channel's vectors, and
// logprobs where a client asked for them. Sequences and their sampling state are made by the
// thread that submits them.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <future>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "base/bounded_queue.h"
#include "base/metrics.h"
#include "engine/engine_handle.h"
#include "engine/engine_metrics.h"
#include "engine/engine_options.h"
#include "engine/live_request.h"
#include "model/model.h"
#include "sample/sampler.h"
#include "schedule/scheduler.h"

namespace kvs {

class Engine : public EngineHandle {
 public:
  // Starts the thread. `runner` and `metrics` must outlive the engine; `runner` is used by its
  // thread alone. REQUIRES: the limits of `options.scheduler` are those that `runner` was built
  // for.
  Engine(const EngineOptions& options, StepRunner& runner, MetricsRegistry& metrics);
  ~Engine() override;  // Shutdown

  const EngineInfo& info() const override { return info_; }
  // Besides what EngineHandle says: kInvalidArgument for a request that could never run here.
  Result<std::vector<std::shared_ptr<TokenChannel>>> Submit(
      std::vector<Request> requests, std::shared_ptr<ChannelSignal> signal) override;
  Result<ResetResult> ResetPrefixCache() override;
  double SecondsSinceHeartbeat() const override;
  bool accepting() const override { return !inbox_.closed(); }

  // Draining, in this order; all thread-safe and idempotent.
  // Refuses new requests from here on; those accepted go on.
  void BeginStop();
  // True once every accepted request has its last event; false when the time is over before.
  bool WaitIdle(std::chrono::milliseconds timeout);
  // Ends what is left with kCancelled within one step, then ends the thread.
  void Shutdown();

 private:
  static constexpr size_t kMaxPendingResets = 64;

  // A step from its Forward to the publishing of its tokens.
  struct LaunchedStep {
    explicit LaunchedStep(const StepLimits& limits) : sampler(limits) {
      sequences.reserve(limits.max_num_seqs);
    }
    const StepPlan* plan = nullptr;  // sizes alone are read after Forward, and until the next Plan
    std::vector<Sequence*> sequences;  // by slice; valid until this step's Commit
    uint32_t num_tokens = 0;
    float* logits = nullptr;
    Sampler sampler;
    std::span<const SequenceUpdate> updates;  // once finished
  };

  // Engine thread.
  void Run();
  void Step();
  void AcceptInbox();
  void SweepCancelled();
  void NoteScheduled();
  LaunchedStep* Launch();
  void StartSampling(LaunchedStep& step);
  void Finish(LaunchedStep& step);
  void Publish(const LaunchedStep& step);
  TokenEvent MakeEvent(const SequenceUpdate& update, LiveRequest& live, const Sampler& sampler);
  void Touch(const TokenChannel& channel);
  void NotifyReaders();
  void NoteToken(LiveRequest& live, SteadyTime now);
  void End(Sequence& sequence, TokenEvent last_event, SteadyTime now);
  void UpdateMetrics();
  void AnswerResets();
  void SwitchKvCache();
  void WaitForWork();

  // Any thread.
  Result<void> CheckFits(const std::vector<Request>& requests) const;
  size_t MostLive() const;
  bool TakeSeats(size_t num_requests);
  void AddOpen(int64_t change);

  // Constant after construction.
  const EngineOptions options_;
  const EngineInfo info_;

  // Shared by all threads.
  BoundedQueue<Arrival> inbox_;
  BoundedQueue<std::promise<Result<ResetResult>>> resets_;
  std::atomic<bool> abort_{false};
  std::atomic<SteadyTime> heartbeat_;
  // Requests accepted and not ended, and how many of those may run at once as far as the last step
  // could tell: together they bound the queue.
  std::atomic<uint32_t> num_live_{0};
  std::atomic<uint32_t> num_seats_;
  std::mutex open_mutex_;
  std::condition_variable none_open_;
  int64_t num_open_ = 0;   // channels without their last event; guarded by open_mutex_
  std::mutex join_mutex_;  // guards thread_ once it runs

  // Engine thread only, but for Scheduler::CanEverFit and the metrics of rejected requests.
  EngineMetrics metrics_;
  StepRunner& runner_;
  const uint64_t num_saturated_before_;  // by steps before this engine's
  Scheduler scheduler_;
  std::array<LaunchedStep, 2> steps_;  // in turn
  uint32_t next_step_ = 0;
  LaunchedStep* running_ = nullptr;  // on the device while Step returns; null unless pipelined
  std::vector<Arrival> arrivals_;
  std::vector<Sequence*> cancelled_;
  std::vector<std::shared_ptr<ChannelSignal>> touched_;  // has events that no one was told of
  std::vector<std::promise<Result<ResetResult>>> pending_resets_;
  bool checked_since_busy_ = true;
  bool awaits_switch_;                 // of the KV cache, once enough requests ended
  uint32_t num_ended_for_switch_ = 0;  // since then

  std::thread thread_;  // last: everything it uses exists before it
};

}  // namespace kvs
