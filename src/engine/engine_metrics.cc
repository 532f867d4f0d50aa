#include "engine/engine_metrics.h"

#include <fmt/format.h>

#include <chrono>
#include <string>
#include <vector>

#include "kvserve/check.h"

namespace kvs {
namespace {

using Bounds = std::vector<double>;

// vLLM's buckets.
const Bounds kFirstTokenBounds = {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                                  1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
const Bounds kTokenBounds = {.01, .025, .05, .075, .1,  .15, .2, .3, .4, .5,
                             .75, 1,    2.5, 5,    7.5, 10,  20, 40, 80};
const Bounds kRequestBounds = {.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                               30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
const Bounds kStepBounds = {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};
const Bounds kParamsNBounds = {1, 2, 5, 10, 20};
const Bounds kPreemptionBounds = {0, 1, 2, 5, 10, 20, 50, 100};

// 1, 2, 5, 10, 20, 50 ... up to and including `largest`.
Bounds OneTwoFive(uint32_t largest) {
  Bounds bounds;
  for (uint64_t decade = 1; decade <= largest; decade *= 10) {
    for (const uint64_t factor : {1, 2, 5}) {
      if (factor * decade <= largest) bounds.push_back(static_cast<double>(factor * decade));
    }
  }
  return bounds;
}

double Seconds(SteadyTime from, SteadyTime to) {
  return std::chrono::duration<double>(to - from).count();
}

Counter& Miss(MetricsRegistry& registry, const char* reason) {
  return registry.AddCounter("kvserve_prefix_miss_tokens_total",
                             "Prompt tokens looked up in the prefix cache and not served from it.",
                             {{"reason", reason}});
}

Counter& BySource(MetricsRegistry& registry, const char* source) {
  return registry.AddCounter("vllm:prompt_tokens_by_source_total",
                             "Prompt tokens by where their keys and values came from.",
                             {{"source", source}});
}

Counter& Success(MetricsRegistry& registry, FinishReason reason) {
  return registry.AddCounter("vllm:request_success_total", "Requests that ended, by reason.",
                             {{"finished_reason", ToString(reason)}});
}

Counter& Rejected(MetricsRegistry& registry, const char* reason) {
  return registry.AddCounter("kvserve_requests_rejected_total",
                             "Requests refused before they were queued.", {{"reason", reason}});
}

Gauge& WaitingBecause(MetricsRegistry& registry, const char* reason) {
  return registry.AddGauge("vllm:num_requests_waiting_by_reason", "Requests waiting, by reason.",
                           {{"reason", reason}});
}

}  // namespace

EngineMetrics::EngineMetrics(MetricsRegistry& r, const EngineOptions& options)
    : num_blocks_(options.scheduler.num_blocks),
      running_(r.AddGauge("vllm:num_requests_running", "Requests being computed.")),
      waiting_(r.AddGauge("vllm:num_requests_waiting", "Requests waiting to be computed.")),
      waiting_capacity_(WaitingBecause(r, "capacity")),
      kv_usage_(r.AddGauge("vllm:kv_cache_usage_perc",
                           "Share of KV blocks held by requests, 0 to 1; blocks that are only "
                           "cached count as free.")),
      kv_usage_alias_(
          r.AddGauge("vllm:gpu_cache_usage_perc", "Former name of vllm:kv_cache_usage_perc.")),
      cached_free_blocks_(
          r.AddGauge("kvserve_kv_cached_free_blocks",
                     "KV blocks that no request holds but that a prefix may still claim.")),
      held_blocks_(r.AddGauge("kvserve_kv_held_blocks", "KV blocks held by requests.")),
      leaked_blocks_(
          r.AddGauge("kvserve_kv_blocks_leaked",
                     "KV blocks held when no request existed; anything but 0 is a bug.")),
      prefix_queries_(r.AddCounter("vllm:prefix_cache_queries_total",
                                   "Prompt tokens looked up in the prefix cache.")),
      prefix_hits_(r.AddCounter("vllm:prefix_cache_hits_total",
                                "Prompt tokens served from the prefix cache.")),
      prefix_queries_alias_(r.AddCounter("vllm:gpu_prefix_cache_queries_total",
                                         "Former name of vllm:prefix_cache_queries_total.")),
      prefix_hits_alias_(r.AddCounter("vllm:gpu_prefix_cache_hits_total",
                                      "Former name of vllm:prefix_cache_hits_total.")),
      prefix_hit_rate_alias_(r.AddGauge(
          "vllm:gpu_prefix_cache_hit_rate",
          "Share of looked-up prompt tokens served from the prefix cache since start, 0 to 1.")),
      miss_not_cached_(Miss(r, "not_cached")),
      miss_partial_block_(Miss(r, "partial_block")),
      miss_last_token_(Miss(r, "last_token")),
      hash_collisions_(r.AddCounter(
          "kvserve_prefix_hash_collisions_total",
          "Prefix lookups whose hash matched a block of other tokens; the block was not used.")),
      preemptions_(
          r.AddCounter("vllm:num_preemptions_total",
                       "Times a running request gave up its KV blocks to be computed again.")),
      evicted_blocks_(
          r.AddCounter("kvserve_kv_evicted_blocks_total",
                       "Cached KV blocks that were forgotten because their memory was needed.")),
      saturated_values_(
          r.AddCounter("kvserve_kv_saturated_values_total",
                       "Elements of K and V clipped to the largest FP8 value when stored.")),
      prompt_tokens_(r.AddCounter("vllm:prompt_tokens_total",
                                  "Prompt tokens of requests whose prompt is done.")),
      prompt_tokens_cached_(r.AddCounter("vllm:prompt_tokens_cached_total",
                                         "Of these, tokens served from the prefix cache.")),
      prompt_tokens_computed_(BySource(r, "local_compute")),
      prompt_tokens_hit_(BySource(r, "local_cache_hit")),
      generation_tokens_(r.AddCounter("vllm:generation_tokens_total", "Tokens generated.")),
      success_{&Success(r, FinishReason::kStop), &Success(r, FinishReason::kLength),
               &Success(r, FinishReason::kCancelled), &Success(r, FinishReason::kError)},
      rejected_queue_full_(Rejected(r, "queue_full")),
      rejected_stopping_(Rejected(r, "stopping")),
      time_to_first_token_(r.AddHistogram("vllm:time_to_first_token_seconds",
                                          "From a request's arrival to its first token.",
                                          kFirstTokenBounds)),
      inter_token_latency_(r.AddHistogram("vllm:inter_token_latency_seconds",
                                          "Between two tokens of a request.", kTokenBounds)),
      time_per_output_token_(r.AddHistogram("vllm:request_time_per_output_token_seconds",
                                            "Mean time per token after the first, by request.",
                                            kTokenBounds)),
      e2e_latency_(r.AddHistogram("vllm:e2e_request_latency_seconds",
                                  "From a request's arrival to its end.", kRequestBounds)),
      queue_time_(r.AddHistogram("vllm:request_queue_time_seconds",
                                 "From a request's arrival to its first step.", kRequestBounds)),
      inference_time_(r.AddHistogram("vllm:request_inference_time_seconds",
                                     "From a request's first step to its last token.",
                                     kRequestBounds)),
      prefill_time_(r.AddHistogram("vllm:request_prefill_time_seconds",
                                   "From a request's first step to its first token.",
                                   kRequestBounds)),
      decode_time_(r.AddHistogram("vllm:request_decode_time_seconds",
                                  "From a request's first token to its last.", kRequestBounds)),
      request_prompt_tokens_(r.AddHistogram("vllm:request_prompt_tokens",
                                            "Prompt tokens of a request.",
                                            OneTwoFive(options.scheduler.limits.max_model_len))),
      request_prefill_computed_(
          r.AddHistogram("vllm:request_prefill_kv_computed_tokens",
                         "Prompt tokens of a request that were not served from the prefix cache.",
                         OneTwoFive(options.scheduler.limits.max_model_len))),
      request_generation_tokens_(
          r.AddHistogram("vllm:request_generation_tokens", "Tokens generated for a request.",
                         OneTwoFive(options.scheduler.limits.max_model_len))),
      request_max_generation_tokens_(r.AddHistogram(
          "vllm:request_max_num_generation_tokens", "Tokens of the longest generation of a call.",
          OneTwoFive(options.scheduler.limits.max_model_len))),
      request_max_tokens_(r.AddHistogram("vllm:request_params_max_tokens",
                                         "max_tokens of a request.",
                                         OneTwoFive(options.scheduler.limits.max_model_len))),
      request_preemptions_(r.AddHistogram("vllm:request_num_preemptions",
                                          "Times a request was preempted.", kPreemptionBounds)),
      step_tokens_(r.AddHistogram("vllm:iteration_tokens_total", "Tokens computed in a step.",
                                  kStepBounds)) {
  SetConstants(r, options);
}

void EngineMetrics::SetConstants(MetricsRegistry& registry, const EngineOptions& options) {
  const SchedulerConfig& scheduler = options.scheduler;
  const uint64_t num_tokens = uint64_t{scheduler.num_blocks} * scheduler.limits.block_size;
  const double concurrency = AsDouble(num_tokens) / scheduler.limits.max_model_len;
  registry
      .AddGauge("vllm:cache_config_info", "How the KV cache is configured; always 1.",
                {{"block_size", fmt::format("{}", scheduler.limits.block_size)},
                 {"cache_dtype", std::string(ToString(options.kv_layout.dtype))},
                 {"enable_prefix_caching", scheduler.enable_prefix_caching ? "True" : "False"},
                 {"num_gpu_blocks", fmt::format("{}", scheduler.num_blocks)},
                 {"kv_cache_size_tokens", fmt::format("{}", num_tokens)},
                 {"kv_cache_max_concurrency", fmt::format("{:.2f}", concurrency)}})
      .Set(1);
  registry.AddGauge("kvserve_kv_pool_bytes", "Memory of the KV blocks that requests can use.")
      .Set(AsDouble(options.kv_layout.BlockBytes()) * scheduler.num_blocks);
  registry.AddGauge("kvserve_kv_bytes_per_token", "Memory of one token's keys and values.")
      .Set(AsDouble(options.kv_layout.TokenBytes()));
  // No request is ever put off for another reason than room.
  WaitingBecause(registry, "deferred").Set(0);
}

void EngineMetrics::Update(const SchedulerStats& stats, uint64_t num_saturated, bool idle) {
  running_.Set(stats.num_running);
  waiting_.Set(stats.num_waiting);
  waiting_capacity_.Set(stats.num_waiting);
  const double usage = stats.num_blocks_held / num_blocks_;
  kv_usage_.Set(usage);
  kv_usage_alias_.Set(usage);
  cached_free_blocks_.Set(stats.num_blocks_cached_free);
  held_blocks_.Set(stats.num_blocks_held);
  if (idle) leaked_blocks_.Set(stats.num_blocks_held);

  prefix_queries_.To(stats.prefix_query_tokens);
  prefix_hits_.To(stats.prefix_hit_tokens);
  prefix_queries_alias_.To(stats.prefix_query_tokens);
  prefix_hits_alias_.To(stats.prefix_hit_tokens);
  if (stats.prefix_query_tokens > 0) {
    prefix_hit_rate_alias_.Set(AsDouble(stats.prefix_hit_tokens) /
                               AsDouble(stats.prefix_query_tokens));
  }
  miss_not_cached_.To(stats.miss_tokens_not_cached);
  miss_partial_block_.To(stats.miss_tokens_partial_block);
  miss_last_token_.To(stats.miss_tokens_last_token);
  hash_collisions_.To(stats.num_hash_collisions);
  preemptions_.To(stats.num_preemptions);
  evicted_blocks_.To(stats.num_evicted_blocks);
  saturated_values_.To(num_saturated);
}

void EngineMetrics::OnStep(uint32_t num_tokens) { step_tokens_.Observe(num_tokens); }

void EngineMetrics::OnPromptDone(uint32_t num_prompt_tokens, uint32_t num_cached_tokens) {
  const uint32_t num_computed = num_prompt_tokens - num_cached_tokens;
  prompt_tokens_.Add(num_prompt_tokens);
  prompt_tokens_cached_.Add(num_cached_tokens);
  prompt_tokens_computed_.Add(num_computed);
  prompt_tokens_hit_.Add(num_cached_tokens);
  request_prefill_computed_.Observe(num_computed);
}

void EngineMetrics::OnFirstToken(const RequestTimeline& timeline) {
  generation_tokens_.Add();
  time_to_first_token_.Observe(Seconds(timeline.arrival, timeline.first_token));
}

void EngineMetrics::OnNextToken(double seconds_since_last) {
  generation_tokens_.Add();
  inter_token_latency_.Observe(seconds_since_last);
}

void EngineMetrics::OnEnd(const EndedRequest& request, SteadyTime now) {
  const RequestTimeline& at = request.timeline;
  SuccessCounter(request.reason).Add();
  e2e_latency_.Observe(Seconds(at.arrival, now));
  queue_time_.Observe(Seconds(at.arrival, request.was_scheduled ? at.first_scheduled : now));
  request_prompt_tokens_.Observe(request.num_prompt_tokens);
  request_generation_tokens_.Observe(request.num_output_tokens);
  request_max_tokens_.Observe(request.max_tokens);
  request_preemptions_.Observe(request.num_preemptions);
  if (request.num_output_tokens == 0) return;
  const double decode = Seconds(at.first_token, at.last_token);
  prefill_time_.Observe(Seconds(at.first_scheduled, at.first_token));
  decode_time_.Observe(decode);
  inference_time_.Observe(Seconds(at.first_scheduled, at.last_token));
  if (request.num_output_tokens > 1) {
    time_per_output_token_.Observe(decode / (request.num_output_tokens - 1));
  }
}

void EngineMetrics::OnCallEnd(uint32_t max_num_generation_tokens) {
  request_max_generation_tokens_.Observe(max_num_generation_tokens);
}

Counter& EngineMetrics::SuccessCounter(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return *success_[0];
    case FinishReason::kLength:
      return *success_[1];
    case FinishReason::kCancelled:
      return *success_[2];
    case FinishReason::kNone:
    case FinishReason::kError:
      break;
  }
  KVS_CHECK(reason == FinishReason::kError);
  return *success_[3];
}

Histogram& RequestParamsN(MetricsRegistry& registry) {
  return registry.AddHistogram("vllm:request_params_n", "Generations asked for per prompt (n).",
                               kParamsNBounds);
}

}  // namespace kvs
