// EngineMetrics: what the engine tells Prometheus, under vLLM's names (vllm/v1/metrics/loggers.py)
// so that its dashboards and routers work, and under kvserve_ for what vLLM does not tell.
//
// Updated by the engine thread alone, but for the counters of rejected requests.
#pragma once

#include <array>
#include <cstdint>

#include "base/metrics.h"
#include "engine/engine_options.h"
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

  // Brings gauges and counters level with the scheduler. `idle`: no request exists, so that every
  // block still held is a leak.
  void Update(const SchedulerStats& stats, uint64_t num_saturated, bool idle);
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
    rejected_queue_full_.Add(AsDouble(num_requests));
  }
  void OnRejectedStopping(size_t num_requests) { rejected_stopping_.Add(AsDouble(num_requests)); }

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
  static void SetConstants(MetricsRegistry& registry, const EngineOptions& options);
  Counter& SuccessCounter(FinishReason reason);

  const double num_blocks_;
  // State of the queues and of the pool.
  Gauge& running_;
  Gauge& waiting_;
  Gauge& waiting_capacity_;
  Gauge& kv_usage_;
  Gauge& kv_usage_alias_;
  Gauge& cached_free_blocks_;
  Gauge& held_blocks_;
  Gauge& leaked_blocks_;
  // Counts that the scheduler and the model keep.
  Following prefix_queries_;
  Following prefix_hits_;
  Following prefix_queries_alias_;
  Following prefix_hits_alias_;
  Gauge& prefix_hit_rate_alias_;
  Following miss_not_cached_;
  Following miss_partial_block_;
  Following miss_last_token_;
  Following hash_collisions_;
  Following preemptions_;
  Following evicted_blocks_;
  Following saturated_values_;
  // Tokens and requests.
  Counter& prompt_tokens_;
  Counter& prompt_tokens_cached_;
  Counter& prompt_tokens_computed_;
  Counter& prompt_tokens_hit_;
  Counter& generation_tokens_;
  std::array<Counter*, 4> success_;  // stop, length, abort, error
  Counter& rejected_queue_full_;
  Counter& rejected_stopping_;
  // Distributions.
  Histogram& time_to_first_token_;
  Histogram& inter_token_latency_;
  Histogram& time_per_output_token_;
  Histogram& e2e_latency_;
  Histogram& queue_time_;
  Histogram& inference_time_;
  Histogram& prefill_time_;
  Histogram& decode_time_;
  Histogram& request_prompt_tokens_;
  Histogram& request_prefill_computed_;
  Histogram& request_generation_tokens_;
  Histogram& request_max_generation_tokens_;
  Histogram& request_max_tokens_;
  Histogram& request_preemptions_;
  Histogram& step_tokens_;
};

// vllm:request_params_n, which only the HTTP layer knows: observed once per call. Registers it on
// first use, then returns the same metric.
Histogram& RequestParamsN(MetricsRegistry& registry);

}  // namespace kvs
