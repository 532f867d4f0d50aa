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

EngineMetrics::State::State(MetricsRegistry& r)
    : running(r.AddGauge("vllm:num_requests_running", "Requests being computed.")),
      waiting(r.AddGauge("vllm:num_requests_waiting", "Requests waiting to be computed.")),
      waiting_capacity(WaitingBecause(r, "capacity")),
      waiting_deferred(WaitingBecause(r, "deferred")),
      kv_usage(r.AddGauge("vllm:kv_cache_usage_perc",
                          "Share of KV blocks held by requests, 0 to 1; blocks that are only "
                          "cached count as free.")),
      kv_usage_alias(
          r.AddGauge("vllm:gpu_cache_usage_perc", "Former name of vllm:kv_cache_usage_perc.")),
      cached_free_blocks(
          r.AddGauge("kvserve_kv_cached_free_blocks",
                     "KV blocks that no request holds but that a prefix may still claim.")),
      held_blocks(r.AddGauge("kvserve_kv_held_blocks", "KV blocks held by requests.")),
      leaked_blocks(r.AddGauge("kvserve_kv_blocks_leaked",
                               "KV blocks held when no request existed; anything but 0 is a bug.")),
      pool_bytes(
          r.AddGauge("kvserve_kv_pool_bytes", "Memory of the KV blocks that requests can use.")),
      bytes_per_token(
          r.AddGauge("kvserve_kv_bytes_per_token", "Memory of one token's keys and values.")) {}

EngineMetrics::Counts::Counts(MetricsRegistry& r)
    : prefix_queries(r.AddCounter("vllm:prefix_cache_queries_total",
                                  "Prompt tokens looked up in the prefix cache.")),
      prefix_hits(r.AddCounter("vllm:prefix_cache_hits_total",
                               "Prompt tokens served from the prefix cache.")),
      prefix_queries_alias(r.AddCounter("vllm:gpu_prefix_cache_queries_total",
                                        "Former name of vllm:prefix_cache_queries_total.")),
      prefix_hits_alias(r.AddCounter("vllm:gpu_prefix_cache_hits_total",
                                     "Former name of vllm:prefix_cache_hits_total.")),
      prefix_hit_rate_alias(r.AddGauge(
          "vllm:gpu_prefix_cache_hit_rate",
          "Share of looked-up prompt tokens served from the prefix cache since start, 0 to 1.")),
      miss_not_cached(Miss(r, "not_cached")),
      miss_partial_block(Miss(r, "partial_block")),
      miss_last_token(Miss(r, "last_token")),
      hash_collisions(r.AddCounter(
          "kvserve_prefix_hash_collisions_total",
          "Prefix lookups whose hash matched a block of other tokens; the block was not used.")),
      preemptions(
          r.AddCounter("vllm:num_preemptions_total",
                       "Times a running request gave up its KV blocks to be computed again.")),
      evicted_blocks(
          r.AddCounter("kvserve_kv_evicted_blocks_total",
                       "Cached KV blocks that were forgotten because their memory was needed.")),
      saturated_values(
          r.AddCounter("kvserve_kv_saturated_values_total",
                       "Elements of K and V clipped to the largest FP8 value when stored.")),
      device_busy_seconds(r.AddCounter("kvserve_device_busy_seconds_total",
                                       "Time a GPU spent on steps; 0 on the CPU.")),
      device_idle_seconds(r.AddCounter(
          "kvserve_device_idle_seconds_total",
          "Time a GPU waited between two steps, the second of which was wanted before the first "
          "was done; 0 on the CPU.")) {}

EngineMetrics::Tokens::Tokens(MetricsRegistry& r)
    : prompt_tokens(r.AddCounter("vllm:prompt_tokens_total",
                                 "Prompt tokens of requests whose prompt is done.")),
      prompt_tokens_cached(r.AddCounter("vllm:prompt_tokens_cached_total",
                                        "Of these, tokens served from the prefix cache.")),
      prompt_tokens_computed(BySource(r, "local_compute")),
      prompt_tokens_hit(BySource(r, "local_cache_hit")),
      generation_tokens(r.AddCounter("vllm:generation_tokens_total", "Tokens generated.")),
      success{&Success(r, FinishReason::kStop), &Success(r, FinishReason::kLength),
              &Success(r, FinishReason::kCancelled), &Success(r, FinishReason::kError)},
      rejected_queue_full(Rejected(r, "queue_full")),
      rejected_stopping(Rejected(r, "stopping")) {}

EngineMetrics::Distributions::Distributions(MetricsRegistry& r, uint32_t max_model_len)
    : time_to_first_token(r.AddHistogram("vllm:time_to_first_token_seconds",
                                         "From a request's arrival to its first token.",
                                         kFirstTokenBounds)),
      inter_token_latency(r.AddHistogram("vllm:inter_token_latency_seconds",
                                         "Between two tokens of a request.", kTokenBounds)),
      time_per_output_token(r.AddHistogram("vllm:request_time_per_output_token_seconds",
                                           "Mean time per token after the first, by request.",
                                           kTokenBounds)),
      e2e_latency(r.AddHistogram("vllm:e2e_request_latency_seconds",
                                 "From a request's arrival to its end.", kRequestBounds)),
      queue_time(r.AddHistogram("vllm:request_queue_time_seconds",
                                "From a request's arrival to its first step.", kRequestBounds)),
      inference_time(r.AddHistogram("vllm:request_inference_time_seconds",
                                    "From a request's first step to its last token.",
                                    kRequestBounds)),
      prefill_time(r.AddHistogram("vllm:request_prefill_time_seconds",
                                  "From a request's first step to its first token.",
                                  kRequestBounds)),
      decode_time(r.AddHistogram("vllm:request_decode_time_seconds",
                                 "From a request's first token to its last.", kRequestBounds)),
      request_prompt_tokens(r.AddHistogram(
          "vllm:request_prompt_tokens", "Prompt tokens of a request.", OneTwoFive(max_model_len))),
      request_prefill_computed(
          r.AddHistogram("vllm:request_prefill_kv_computed_tokens",
                         "Prompt tokens of a request that were not served from the prefix cache.",
                         OneTwoFive(max_model_len))),
      request_generation_tokens(r.AddHistogram("vllm:request_generation_tokens",
                                               "Tokens generated for a request.",
                                               OneTwoFive(max_model_len))),
      request_max_generation_tokens(r.AddHistogram("vllm:request_max_num_generation_tokens",
                                                   "Tokens of the longest generation of a call.",
                                                   OneTwoFive(max_model_len))),
      request_max_tokens(r.AddHistogram("vllm:request_params_max_tokens",
                                        "max_tokens of a request.", OneTwoFive(max_model_len))),
      request_preemptions(r.AddHistogram("vllm:request_num_preemptions",
                                         "Times a request was preempted.", kPreemptionBounds)),
      step_tokens(r.AddHistogram("vllm:iteration_tokens_total", "Tokens computed in a step.",
                                 kStepBounds)) {}

EngineMetrics::EngineMetrics(MetricsRegistry& registry, const EngineOptions& options)
    : registry_(registry),
      state_(registry),
      counts_(registry),
      tokens_(registry),
      distributions_(registry, options.scheduler.limits.max_model_len) {
  SetKvCache(options, {.layout = options.kv_layout,
                       .num_blocks = options.scheduler.num_blocks,
                       .identity = options.scheduler.kv_identity,
                       .scale_source = options.kv_scale_source});
}

void EngineMetrics::SetKvCache(const EngineOptions& options, const KvCacheFacts& cache) {
  const SchedulerConfig& scheduler = options.scheduler;
  const uint64_t num_tokens = uint64_t{cache.num_blocks} * scheduler.limits.block_size;
  const double concurrency = AsDouble(num_tokens) / scheduler.limits.max_model_len;
  num_blocks_ = cache.num_blocks;
  registry_.SetInfo("vllm:cache_config_info", "How the KV cache is configured; always 1.",
                    {{"block_size", fmt::format("{}", scheduler.limits.block_size)},
                     {"cache_dtype", std::string(ToString(cache.layout.dtype))},
                     {"enable_prefix_caching", scheduler.enable_prefix_caching ? "True" : "False"},
                     {"num_gpu_blocks", fmt::format("{}", cache.num_blocks)},
                     {"kv_cache_size_tokens", fmt::format("{}", num_tokens)},
                     {"kv_cache_max_concurrency", fmt::format("{:.2f}", concurrency)}});
  registry_.SetInfo("kvserve_kv_scales_info",
                    "Where the scales of the KV cache came from; always 1.",
                    {{"source", cache.scale_source}});
  state_.pool_bytes.Set(AsDouble(cache.layout.BlockBytes()) * cache.num_blocks);
  state_.bytes_per_token.Set(AsDouble(cache.layout.TokenBytes()));
}

void EngineMetrics::Update(const SchedulerStats& stats, uint64_t num_saturated, bool idle) {
  state_.running.Set(stats.num_running);
  state_.waiting.Set(stats.num_waiting);
  state_.waiting_capacity.Set(stats.num_waiting - stats.num_held_back);
  state_.waiting_deferred.Set(stats.num_held_back);
  const double usage = stats.num_blocks_held / num_blocks_;
  state_.kv_usage.Set(usage);
  state_.kv_usage_alias.Set(usage);
  state_.cached_free_blocks.Set(stats.num_blocks_cached_free);
  state_.held_blocks.Set(stats.num_blocks_held);
  if (idle) state_.leaked_blocks.Set(stats.num_blocks_held);

  counts_.prefix_queries.To(stats.prefix_query_tokens);
  counts_.prefix_hits.To(stats.prefix_hit_tokens);
  counts_.prefix_queries_alias.To(stats.prefix_query_tokens);
  counts_.prefix_hits_alias.To(stats.prefix_hit_tokens);
  if (stats.prefix_query_tokens > 0) {
    counts_.prefix_hit_rate_alias.Set(AsDouble(stats.prefix_hit_tokens) /
                                      AsDouble(stats.prefix_query_tokens));
  }
  counts_.miss_not_cached.To(stats.miss_tokens_not_cached);
  counts_.miss_partial_block.To(stats.miss_tokens_partial_block);
  counts_.miss_last_token.To(stats.miss_tokens_last_token);
  counts_.hash_collisions.To(stats.num_hash_collisions);
  counts_.preemptions.To(stats.num_preemptions);
  counts_.evicted_blocks.To(stats.num_evicted_blocks);
  counts_.saturated_values.To(num_saturated);
}

void EngineMetrics::Update(const DeviceTime& time) {
  counts_.device_busy_seconds.Add(time.busy_seconds - device_time_.busy_seconds);
  counts_.device_idle_seconds.Add(time.idle_seconds - device_time_.idle_seconds);
  device_time_ = time;
}

void EngineMetrics::OnStep(uint32_t num_tokens) { distributions_.step_tokens.Observe(num_tokens); }

void EngineMetrics::OnPromptDone(uint32_t num_prompt_tokens, uint32_t num_cached_tokens) {
  const uint32_t num_computed = num_prompt_tokens - num_cached_tokens;
  tokens_.prompt_tokens.Add(num_prompt_tokens);
  tokens_.prompt_tokens_cached.Add(num_cached_tokens);
  tokens_.prompt_tokens_computed.Add(num_computed);
  tokens_.prompt_tokens_hit.Add(num_cached_tokens);
  distributions_.request_prefill_computed.Observe(num_computed);
}

void EngineMetrics::OnFirstToken(const RequestTimeline& timeline) {
  tokens_.generation_tokens.Add();
  distributions_.time_to_first_token.Observe(Seconds(timeline.arrival, timeline.first_token));
}

void EngineMetrics::OnNextToken(double seconds_since_last) {
  tokens_.generation_tokens.Add();
  distributions_.inter_token_latency.Observe(seconds_since_last);
}

void EngineMetrics::OnEnd(const EndedRequest& request, SteadyTime now) {
  const RequestTimeline& at = request.timeline;
  SuccessCounter(request.reason).Add();
  distributions_.e2e_latency.Observe(Seconds(at.arrival, now));
  distributions_.queue_time.Observe(
      Seconds(at.arrival, request.was_scheduled ? at.first_scheduled : now));
  distributions_.request_prompt_tokens.Observe(request.num_prompt_tokens);
  distributions_.request_generation_tokens.Observe(request.num_output_tokens);
  distributions_.request_max_tokens.Observe(request.max_tokens);
  distributions_.request_preemptions.Observe(request.num_preemptions);
  if (request.num_output_tokens == 0) return;
  const double decode = Seconds(at.first_token, at.last_token);
  distributions_.prefill_time.Observe(Seconds(at.first_scheduled, at.first_token));
  distributions_.decode_time.Observe(decode);
  distributions_.inference_time.Observe(Seconds(at.first_scheduled, at.last_token));
  if (request.num_output_tokens > 1) {
    distributions_.time_per_output_token.Observe(decode / (request.num_output_tokens - 1));
  }
}

void EngineMetrics::OnCallEnd(uint32_t max_num_generation_tokens) {
  distributions_.request_max_generation_tokens.Observe(max_num_generation_tokens);
}

Counter& EngineMetrics::SuccessCounter(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return *tokens_.success[0];
    case FinishReason::kLength:
      return *tokens_.success[1];
    case FinishReason::kCancelled:
      return *tokens_.success[2];
    case FinishReason::kNone:
    case FinishReason::kError:
      break;
  }
  KVS_CHECK(reason == FinishReason::kError);
  return *tokens_.success[3];
}

}  // namespace kvs
