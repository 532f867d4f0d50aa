#include "engine/engine.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "kvserve/check.h"

namespace kvs {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// An idle engine wakes so often for its heartbeat. It checks its invariants after one such round
// without work, so that the check never stands in a request's way.
constexpr milliseconds kIdleRound(200);

constexpr const char* kNotFinite =
    "the model gave logits that are not finite for this request; other requests are not affected";

LiveRequest& LiveOf(const Sequence& sequence) {
  return *static_cast<LiveRequest*>(sequence.engine_state);
}

EngineInfo MakeInfo(const EngineOptions& options) {
  const SchedulerConfig& scheduler = options.scheduler;
  EngineInfo info;
  info.max_model_len = scheduler.limits.max_model_len;
  info.vocab_size = options.vocab_size;
  info.kv_pool_tokens = uint64_t{scheduler.num_blocks} * scheduler.limits.block_size;
  info.enable_prefix_caching = scheduler.enable_prefix_caching;
  info.block_size = scheduler.limits.block_size;
  info.generation = options.generation;
  return info;
}

}  // namespace

Engine::Engine(const EngineOptions& options, StepRunner& runner, MetricsRegistry& metrics)
    : options_(options),
      info_(MakeInfo(options)),
      inbox_(MostLive()),
      resets_(kMaxPendingResets),
      heartbeat_(steady_clock::now()),
      num_seats_(options.scheduler.limits.max_num_seqs),
      metrics_(metrics, options),
      runner_(runner),
      num_saturated_before_(runner.num_saturated()),
      scheduler_(options.scheduler),
      steps_{LaunchedStep(options.scheduler.limits), LaunchedStep(options.scheduler.limits)},
      awaits_switch_(options.num_requests_before_switch > 0) {
  arrivals_.reserve(MostLive());
  cancelled_.reserve(MostLive());
  touched_.reserve(MostLive());
  thread_ = std::thread([this] { Run(); });
}

Engine::~Engine() { Shutdown(); }

void Engine::Run() {
  while (true) {
    const bool no_more_arrivals = inbox_.closed();
    Step();
    if (awaits_switch_ && num_ended_for_switch_ >= options_.num_requests_before_switch) {
      SwitchKvCache();
    }
    AnswerResets();
    heartbeat_.store(steady_clock::now(), std::memory_order_relaxed);
    if (!scheduler_.idle() || running_ != nullptr) {
      checked_since_busy_ = false;
      continue;
    }
    if (no_more_arrivals) break;
    WaitForWork();
  }
  scheduler_.CheckIntegrity();
  if (awaits_switch_) {
    LOG_WARNING("the KV cache was never switched: {} of {} requests had ended",
                num_ended_for_switch_, options_.num_requests_before_switch);
  }
}

// Everything the daemon does between two tokens happens here, in this order.
void Engine::Step() {
  AcceptInbox();
  SweepCancelled();
  LaunchedStep* const before = std::exchange(running_, nullptr);
  LaunchedStep* const step = Launch();
  // From here on the older step's tokens exist: sequences, hashes and clients may learn of them.
  if (before != nullptr) Finish(*before);
  if (step != nullptr) StartSampling(*step);
  if (before != nullptr) Publish(*before);
  if (step == nullptr) return;
  if (runner_.is_pipelined()) {
    running_ = step;
  } else {
    Finish(*step);
    Publish(*step);
  }
}

// Null when nothing runs, or when all that runs waits for the tokens of the step before.
Engine::LaunchedStep* Engine::Launch() {
  const StepPlan& plan = scheduler_.Plan();  // who runs, how many tokens, in which blocks
  if (plan.slices.empty()) return nullptr;
  NoteScheduled();
  LaunchedStep& step = steps_[next_step_++ % steps_.size()];
  step.plan = &plan;
  step.sequences.assign(scheduler_.planned().begin(), scheduler_.planned().end());
  step.num_tokens = plan.num_tokens;
  step.logits = runner_.Forward(plan);  // K/V written at slots, read by block table
  return &step;
}

void Engine::AcceptInbox() {
  arrivals_.clear();
  inbox_.TakeAll(arrivals_);
  for (Arrival& arrival : arrivals_) {
    arrival.sequence->engine_state = arrival.live.release();  // End takes it back
    scheduler_.Add(std::move(arrival.sequence));
  }
}

void Engine::SweepCancelled() {
  const bool abort = abort_.load(std::memory_order_relaxed);
  cancelled_.clear();
  scheduler_.ForEachSequence([this, abort](Sequence& sequence) {
    if (!abort && !LiveOf(sequence).channel->cancelled()) return;
    scheduler_.Cancel(sequence, FinishReason::kCancelled);
    cancelled_.push_back(&sequence);  // valid until the next Plan
  });
  if (cancelled_.empty()) return;
  UpdateMetrics();
  const SteadyTime now = steady_clock::now();
  for (Sequence* sequence : cancelled_) {
    TokenEvent event;
    event.finish = FinishReason::kCancelled;
    End(*sequence, std::move(event), now);
  }
  NotifyReaders();
}

void Engine::NoteScheduled() {
  UpdateMetrics();
  const SteadyTime now = steady_clock::now();
  for (const Sequence* sequence : scheduler_.planned()) {
    LiveRequest& live = LiveOf(*sequence);
    if (live.was_scheduled) continue;
    live.was_scheduled = true;
    live.timeline.first_scheduled = now;
  }
}

void Engine::StartSampling(LaunchedStep& step) {
  Sampler& sampler = step.sampler;
  sampler.Clear();
  for (size_t i = 0; i < step.sequences.size(); ++i) {
    Sequence& sequence = *step.sequences[i];
    const ScheduledSlice& slice = step.plan->slices[i];
    if (sequence.finish != FinishReason::kNone) {  // found to have ended while this step ran
      sampler.SkipSlice(slice);
      continue;
    }
    sampler.AddSlice(LiveOf(sequence).sampler, sequence.token_ids, slice);
    sequence.sampled_row = sampler.DrawRow(i);
  }
  // A device at work is waited for with the results, also of a step that has none.
  if (sampler.rows().empty() && !runner_.is_pipelined()) return;
  runner_.StartSample(sampler.rows(), sampler.results(), step.logits);
}

// Waits for the step's tokens and gives them to the sequences.
void Engine::Finish(LaunchedStep& step) {
  Sampler& sampler = step.sampler;
  if (!sampler.rows().empty() || runner_.is_pipelined()) {
    runner_.FinishSample(sampler.rows(), sampler.results());
  }
  for (size_t i = 0; i < step.sequences.size(); ++i) {
    if (step.sequences[i]->finish != FinishReason::kNone) sampler.Drop(i);
  }
  metrics_.OnStep(step.num_tokens);
  step.updates = scheduler_.Commit(sampler.Collect());
  for (const SequenceUpdate& update : step.updates) {
    if (update.has_token) LiveOf(*update.sequence).sampler.CountOutput(update.token);
  }
  UpdateMetrics();
}

void Engine::Publish(const LaunchedStep& step) {
  const SteadyTime now = steady_clock::now();
  for (const SequenceUpdate& update : step.updates) {
    Sequence& sequence = *update.sequence;
    LiveRequest& live = LiveOf(sequence);
    TokenEvent event = MakeEvent(update, live, step.sampler);
    if (update.has_token) NoteToken(live, now);
    if (!live.had_event) {
      live.had_event = true;
      event.num_cached_tokens = sequence.num_cached_tokens;
      event.prompt_logprobs = live.sampler.TakePromptLogprobs();
      metrics_.OnPromptDone(sequence.num_prompt_tokens, sequence.num_cached_tokens);
    }
    if (event.finish != FinishReason::kNone) {
      End(sequence, std::move(event), now);
    } else if (live.channel->Push(std::move(event))) {
      Touch(*live.channel);
    } else {
      LOG_WARNING("request {} is cancelled: its reader is {} tokens behind",
                  sequence.request.external_id, options_.channel_capacity);
      live.channel->Cancel();  // the next sweep ends it
    }
  }
  NotifyReaders();
}

void Engine::Touch(const TokenChannel& channel) {
  // The choices of one call share a signal and mostly stand side by side.
  if (touched_.empty() || touched_.back() != channel.signal()) {
    touched_.push_back(channel.signal());
  }
}

// Once the step's events are all pushed, so that one wake-up finds them together.
void Engine::NotifyReaders() {
  ChannelSignal::NotifyAll(touched_);
  touched_.clear();
}

TokenEvent Engine::MakeEvent(const SequenceUpdate& update, LiveRequest& live,
                             const Sampler& sampler) {
  TokenEvent event;
  event.has_token = update.has_token;
  event.token = update.token;
  event.token_is_stop = update.token_is_stop;
  event.finish = update.finish;
  if (update.finish != FinishReason::kNone && live.sampler.failed()) {
    event.finish = FinishReason::kError;
  }
  if (event.finish == FinishReason::kError) event.error = kNotFinite;
  if (update.has_token) {
    const SampleResult* drawn = sampler.DrawResult(update.slice);
    KVS_CHECK(drawn != nullptr);
    event.logprobs = live.sampler.OutputLogprobs(*drawn);
  }
  return event;
}

void Engine::NoteToken(LiveRequest& live, SteadyTime now) {
  RequestTimeline& timeline = live.timeline;
  if (!live.had_event) {
    timeline.first_token = now;
    metrics_.OnFirstToken(timeline);
  } else {
    metrics_.OnNextToken(std::chrono::duration<double>(now - timeline.last_token).count());
  }
  timeline.last_token = now;
}

void Engine::End(Sequence& sequence, TokenEvent last_event, SteadyTime now) {
  const std::unique_ptr<LiveRequest> live(&LiveOf(sequence));
  sequence.engine_state = nullptr;

  EndedRequest ended;
  ended.reason = last_event.finish;
  ended.was_scheduled = live->was_scheduled;
  ended.num_prompt_tokens = sequence.num_prompt_tokens;
  ended.num_output_tokens = sequence.num_output_tokens();
  ended.max_tokens = sequence.request.sampling.max_tokens;
  ended.num_preemptions = sequence.num_preemptions;
  ended.timeline = live->timeline;
  metrics_.OnEnd(ended, now);
  if (ended.was_scheduled) ++num_ended_for_switch_;
  CallTally& call = *live->call;
  call.max_num_output_tokens = std::max(call.max_num_output_tokens, ended.num_output_tokens);
  if (--call.num_left == 0) metrics_.OnCallEnd(call.max_num_output_tokens);

  // Before the event: a client that has seen its end may come again at once.
  num_live_.fetch_sub(1, std::memory_order_relaxed);
  live->channel->Push(std::move(last_event));
  Touch(*live->channel);
  AddOpen(-1);
}

void Engine::UpdateMetrics() {
  const SchedulerStats& stats = scheduler_.stats();
  metrics_.Update(stats, runner_.num_saturated() - num_saturated_before_, scheduler_.idle());
  metrics_.Update(runner_.device_time());
  // Who waits after a step found no room: then the running ones are all the seats there are.
  const uint32_t max_num_seqs = options_.scheduler.limits.max_num_seqs;
  num_seats_.store(stats.num_waiting > 0 ? stats.num_running : max_num_seqs,
                   std::memory_order_relaxed);
}

void Engine::AnswerResets() {
  pending_resets_.clear();
  resets_.TakeAll(pending_resets_);
  for (auto& reset : pending_resets_) {
    ResetResult result;
    result.success = scheduler_.ResetPrefixCache();
    result.num_blocks_in_use = scheduler_.stats().num_blocks_held;
    UpdateMetrics();
    LOG_INFO("prefix cache reset: {}, {} blocks in use", result.success ? "done" : "refused",
             result.num_blocks_in_use);
    reset.set_value(result);
  }
}

// Nothing may be on the device; every sequence is computed again with what the cache is afterwards.
void Engine::SwitchKvCache() {
  if (LaunchedStep* const last = std::exchange(running_, nullptr); last != nullptr) {
    Finish(*last);
    Publish(*last);
  }
  num_ended_for_switch_ = 0;
  const std::optional<KvCacheFacts> cache = options_.switch_kv_cache();
  if (!cache) return;
  awaits_switch_ = false;
  const uint32_t num_running = scheduler_.stats().num_running;
  scheduler_.Restart(cache->num_blocks, cache->identity);
  metrics_.SetKvCache(options_, *cache);
  UpdateMetrics();
  LOG_INFO(
      "KV cache: now {} with {} blocks, scales: {}; the prefix cache is empty, {} running "
      "requests are computed again",
      ToString(cache->layout.dtype), cache->num_blocks, cache->scale_source, num_running);
}

void Engine::WaitForWork() {
  inbox_.WaitFor(kIdleRound);
  if (checked_since_busy_ || inbox_.size() > 0) return;
  scheduler_.CheckIntegrity();
  checked_since_busy_ = true;
}

}  // namespace kvs
