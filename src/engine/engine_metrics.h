// EngineMetrics: what the engine tells Prometheus, under vLLM's names (vllm/v1/metrics/loggers.py)
// so that its dashboards and routers work, and under kvserve_ for what vLLM does not tell.
//
// Updated by the engine thread alone, but for the counters of rejected requests.
#pragma once

#include <array>
#include <cstdint>

#include "base/metrics.h"
#include "engine/engine_options.h"
#include "kvserve/backend.h"
#include "kvserve/request.h"

namespace kvs {

// When the stages of one request were reached; each is set once the stage before it was.
struct RequestTimeline {
  SteadyTime arrival{};
  SteadyTime first_scheduled{};
  SteadyTime first_token{};
  SteadyTime last_token{};
};

// A request that ended, however it did.
struct EndedRequest {
  FinishReason reason = FinishReason::kNone;
  bool was_scheduled = false;  // else first_scheduled is not set
  uint32_t num_prompt_tokens = 0;
  uint32_t num_output_tokens = 0;  // > 0: first_token and last_token are set
  uint32_t max_tokens = 0;
  uint32_t num_preemptions = 0;
  RequestTimeline timeline;
};

class EngineMetrics {
 public:
  EngineMetrics(MetricsRegistry& registry, const EngineOptions& options);

  // What the KV cache is; once more when it becomes another one.
  void SetKvCache(const EngineOptions& options, const KvCacheFacts& cache);
  // Brings gauges and counters level with the scheduler: after Plan, so that a long step shows, and
  // after Commit, before a client hears of what it did. `idle`: no request exists, so that every
  // block still held is a leak.
  void Update(const SchedulerStats& stats, uint64_t num_saturated, bool idle);
  void Update(const DeviceTime& time);
  void OnStep(uint32_t num_tokens);
  // The prompt is computed: its first event goes out.
  void OnPromptDone(uint32_t num_prompt_tokens, uint32_t num_cached_tokens);
  void OnFirstToken(const RequestTimeline& timeline);
  void OnNextToken(double seconds_since_last);
  void OnEnd(const EndedRequest& request, SteadyTime now);
  // Every generation of one call ended; the longest had so many tokens.
  void OnCallEnd(uint32_t max_num_generation_tokens);

  // Thread-safe.
  void OnRejectedQueueFull(size_t num_requests) {
    tokens_.rejected_queue_full.Add(AsDouble(num_requests));
  }
  void OnRejectedStopping(size_t num_requests) {
    tokens_.rejected_stopping.Add(AsDouble(num_requests));
  }

 private:
  // A counter that follows a count kept elsewhere.
  class Following {
   public:
    explicit Following(Counter& counter) : counter_(counter) {}
    void To(uint64_t count) {
      if (count != seen_) counter_.Add(AsDouble(count - seen_));
      seen_ = count;
    }

   private:
    Counter& counter_;
    uint64_t seen_ = 0;
  };

  static double AsDouble(uint64_t value) { return static_cast<double>(value); }
  Counter& SuccessCounter(FinishReason reason);

  // The queues and the pool as they are.
  struct State {
    explicit State(MetricsRegistry& r);
    Gauge& running;
    Gauge& waiting;
    Gauge& waiting_capacity;
    Gauge& waiting_deferred;  // for a prefix that a running request computes
    Gauge& kv_usage;
    Gauge& kv_usage_alias;
    Gauge& cached_free_blocks;
    Gauge& held_blocks;
    Gauge& leaked_blocks;
    Gauge& pool_bytes;
    Gauge& bytes_per_token;
  };
  // Counts that the scheduler and the model keep.
  struct Counts {
    explicit Counts(MetricsRegistry& r);
    Following prefix_queries;
    Following prefix_hits;
    Following prefix_queries_alias;
    Following prefix_hits_alias;
    Gauge& prefix_hit_rate_alias;
    Following miss_not_cached;
    Following miss_partial_block;
    Following miss_last_token;
    Following hash_collisions;
    Following preemptions;
    Following evicted_blocks;
    Following saturated_values;
    Counter& device_busy_seconds;
    Counter& device_idle_seconds;
  };
  // Tokens and requests, counted here.
  struct Tokens {
    explicit Tokens(MetricsRegistry& r);
    Counter& prompt_tokens;
    Counter& prompt_tokens_cached;
    Counter& prompt_tokens_computed;
    Counter& prompt_tokens_hit;
    Counter& generation_tokens;
    std::array<Counter*, 4> success;  // stop, length, abort, error
    Counter& rejected_queue_full;
    Counter& rejected_stopping;
  };
  struct Distributions {
    Distributions(MetricsRegistry& r, uint32_t max_model_len);
    Histogram& time_to_first_token;
    Histogram& inter_token_latency;
    Histogram& time_per_output_token;
    Histogram& e2e_latency;
    Histogram& queue_time;
    Histogram& inference_time;
    Histogram& prefill_time;
    Histogram& decode_time;
    Histogram& request_prompt_tokens;
    Histogram& request_prefill_computed;
    Histogram& request_generation_tokens;
    Histogram& request_max_generation_tokens;
    Histogram& request_max_tokens;
    Histogram& request_preemptions;
    Histogram& step_tokens;
  };

  MetricsRegistry& registry_;
  double num_blocks_ = 0;
  DeviceTime device_time_;  // as last told
  State state_;
  Counts counts_;
  Tokens tokens_;
  Distributions distributions_;
};

}  // namespace kvs
