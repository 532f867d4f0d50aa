#include "engine/engine_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

#include "support/engine_harness.h"

namespace kvs::test {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

TEST(EngineMetrics, EveryNameIsThereBeforeTheFirstRequest) {
  MetricsRegistry registry({{"model_name", "m"}, {"engine", "0"}});
  const EngineMetrics metrics(registry, SmallEngineOptions());
  const std::string text = registry.Serialize();
  for (const char* name : {"vllm:num_requests_running gauge",
                           "vllm:num_requests_waiting gauge",
                           "vllm:num_requests_waiting_by_reason gauge",
                           "vllm:kv_cache_usage_perc gauge",
                           "vllm:cache_config_info gauge",
                           "vllm:prefix_cache_queries_total counter",
                           "vllm:prefix_cache_hits_total counter",
                           "vllm:prompt_tokens_total counter",
                           "vllm:prompt_tokens_cached_total counter",
                           "vllm:prompt_tokens_by_source_total counter",
                           "vllm:generation_tokens_total counter",
                           "vllm:num_preemptions_total counter",
                           "vllm:request_success_total counter",
                           "vllm:time_to_first_token_seconds histogram",
                           "vllm:inter_token_latency_seconds histogram",
                           "vllm:request_time_per_output_token_seconds histogram",
                           "vllm:e2e_request_latency_seconds histogram",
                           "vllm:request_queue_time_seconds histogram",
                           "vllm:request_inference_time_seconds histogram",
                           "vllm:request_prefill_time_seconds histogram",
                           "vllm:request_decode_time_seconds histogram",
                           "vllm:request_prompt_tokens histogram",
                           "vllm:request_prefill_kv_computed_tokens histogram",
                           "vllm:request_generation_tokens histogram",
                           "vllm:request_params_max_tokens histogram",
                           "vllm:request_max_num_generation_tokens histogram",
                           "vllm:iteration_tokens_total histogram",
                           "vllm:request_num_preemptions histogram",
                           "vllm:gpu_cache_usage_perc gauge",
                           "vllm:gpu_prefix_cache_hits_total counter",
                           "vllm:gpu_prefix_cache_queries_total counter",
                           "vllm:gpu_prefix_cache_hit_rate gauge",
                           "kvserve_kv_evicted_blocks_total counter",
                           "kvserve_kv_cached_free_blocks gauge",
                           "kvserve_kv_held_blocks gauge",
                           "kvserve_kv_pool_bytes gauge",
                           "kvserve_kv_scales_info gauge",
                           "kvserve_kv_bytes_per_token gauge",
                           "kvserve_kv_saturated_values_total counter",
                           "kvserve_device_busy_seconds_total counter",
                           "kvserve_device_idle_seconds_total counter",
                           "kvserve_prefix_miss_tokens_total counter",
                           "kvserve_prefix_hash_collisions_total counter",
                           "kvserve_requests_rejected_total counter",
                           "kvserve_kv_blocks_leaked gauge"}) {
    EXPECT_THAT(text, HasSubstr("# TYPE " + std::string(name) + "\n"));
  }
  for (const char* label : {"finished_reason=\"stop\"",
                            "finished_reason=\"length\"",
                            "finished_reason=\"abort\"",
                            "finished_reason=\"error\"",
                            "reason=\"capacity\"",
                            "reason=\"deferred\"",
                            "reason=\"not_cached\"",
                            "reason=\"partial_block\"",
                            "reason=\"last_token\"",
                            "reason=\"queue_full\"",
                            "reason=\"stopping\"",
                            "source=\"local_compute\"",
                            "source=\"local_cache_hit\"",
                            "block_size=\"16\"",
                            "cache_dtype=\"fp8_e4m3\"",
                            "num_gpu_blocks=\"64\"",
                            "enable_prefix_caching=\"True\"",
                            "kv_cache_size_tokens=\"1024\"",
                            "kv_cache_max_concurrency=\"2.00\"",
                            "source=\"default_1.0\""}) {
    EXPECT_THAT(text, HasSubstr(label));
  }
  EXPECT_EQ(MetricValue(registry, "kvserve_kv_bytes_per_token"), 128);
  EXPECT_EQ(MetricValue(registry, "kvserve_kv_pool_bytes"), 64 * 16 * 128);
}

TEST(EngineMetrics, LengthBucketsEndAtTheContextLength) {
  MetricsRegistry registry;
  const EngineMetrics metrics(registry, SmallEngineOptions());  // 512
  const std::string text = registry.Serialize();
  EXPECT_THAT(text, HasSubstr("vllm:request_prompt_tokens_bucket{le=\"500\"} 0"));
  EXPECT_THAT(text, Not(HasSubstr("vllm:request_prompt_tokens_bucket{le=\"1000\"}")));
  EXPECT_THAT(text, HasSubstr("vllm:request_prompt_tokens_bucket{le=\"+Inf\"} 0"));
}

TEST(EngineMetrics, CountsAddUp) {
  EngineHarness harness;
  const auto signal = std::make_shared<ChannelSignal>();
  for (int round = 0; round < 3; ++round) {
    const auto channels = harness.engine->Submit(
        {MakeRequest(MakePrompt(1, 40), 10), MakeRequest(MakePrompt(2, 50), 20)}, signal);
    ASSERT_TRUE(channels.has_value());
    for (const auto& channel : *channels) ReadAll(*channel, *signal);
  }
  Request stopped = MakeRequest(MakePrompt(3, 30), 10);
  stopped.sampling.stop_token_ids = {FakeModel::GreedyOutput(MakePrompt(3, 30), 1)[0]};
  Call(*harness.engine, stopped).Read();
  ASSERT_TRUE(harness.engine->WaitIdle(milliseconds(60'000)));

  const auto value = [&](const char* name, const std::vector<std::string>& labels = {}) {
    return MetricValue(harness.metrics, name, labels);
  };
  EXPECT_EQ(value("vllm:prompt_tokens_total"), 3 * 90 + 30);
  EXPECT_EQ(value("vllm:prompt_tokens_cached_total"), 2 * (32 + 48));
  EXPECT_EQ(value("vllm:prompt_tokens_by_source_total", {"local_cache_hit"}), 2 * (32 + 48));
  EXPECT_EQ(value("vllm:prompt_tokens_by_source_total", {"local_compute"}), 300 - 160);
  EXPECT_EQ(value("vllm:generation_tokens_total"), 3 * 30 + 1);
  EXPECT_EQ(value("vllm:request_success_total", {"\"length\""}), 6);
  EXPECT_EQ(value("vllm:request_success_total", {"\"stop\""}), 1);
  EXPECT_EQ(value("vllm:prefix_cache_queries_total"), 300);
  EXPECT_EQ(value("vllm:prefix_cache_hits_total"), 160);
  EXPECT_EQ(value("vllm:gpu_prefix_cache_hits_total"), 160);
  EXPECT_EQ(value("kvserve_prefix_miss_tokens_total", {"not_cached"}) +
                value("kvserve_prefix_miss_tokens_total", {"partial_block"}) +
                value("kvserve_prefix_miss_tokens_total", {"last_token"}),
            140);
  for (const char* name :
       {"vllm:e2e_request_latency_seconds_count", "vllm:time_to_first_token_seconds_count",
        "vllm:request_queue_time_seconds_count", "vllm:request_prefill_time_seconds_count",
        "vllm:request_decode_time_seconds_count", "vllm:request_inference_time_seconds_count",
        "vllm:request_prompt_tokens_count", "vllm:request_generation_tokens_count",
        "vllm:request_params_max_tokens_count", "vllm:request_num_preemptions_count"}) {
    EXPECT_EQ(value(name), 7) << name;
  }
  EXPECT_EQ(value("vllm:inter_token_latency_seconds_count"), 91 - 7);
  EXPECT_EQ(value("vllm:request_time_per_output_token_seconds_count"), 6);
  EXPECT_EQ(value("vllm:request_generation_tokens_sum"), 91);
  EXPECT_EQ(value("vllm:request_max_num_generation_tokens_count"), 4);  // one per call
  EXPECT_EQ(value("vllm:request_max_num_generation_tokens_sum"), 3 * 20 + 1);
  EXPECT_GT(value("vllm:iteration_tokens_total_count"), 0);
}

TEST(EngineMetrics, GaugesAreLevelWhileAStepIsComputed) {
  EngineHarness harness;
  harness.gate.Close();
  const auto channels =
      harness.engine->Submit({MakeRequest(MakePrompt(1, 40), 5), MakeRequest(MakePrompt(1, 40), 5)},
                             std::make_shared<ChannelSignal>());
  ASSERT_TRUE(channels.has_value());
  harness.gate.WaitUntilHeld();  // one computes the prefix that the other waits for
  const auto value = [&](const char* name, const std::vector<std::string>& labels = {}) {
    return MetricValue(harness.metrics, name, labels);
  };
  EXPECT_EQ(value("vllm:num_requests_running"), 1);
  EXPECT_EQ(value("vllm:num_requests_waiting"), 1);
  EXPECT_EQ(value("vllm:num_requests_waiting_by_reason", {"deferred"}), 1);
  EXPECT_EQ(value("vllm:num_requests_waiting_by_reason", {"capacity"}), 0);
  EXPECT_EQ(value("kvserve_kv_held_blocks"), 3);
  EXPECT_EQ(value("vllm:kv_cache_usage_perc"), 3.0 / 64);
  harness.gate.Open();
  ASSERT_TRUE(harness.engine->WaitIdle(milliseconds(60'000)));
  EXPECT_EQ(value("vllm:num_requests_waiting_by_reason", {"deferred"}), 0);
  EXPECT_EQ(value("vllm:num_requests_running"), 0);
}

// Prometheus's own linter. Names with a colon are vLLM's choice, and so is a histogram that ends in
// _total; it has nothing else to say. Skipped where promtool is not installed.
TEST(EngineMetrics, PromtoolFindsNothingOfOurs) {
  if (std::system("command -v promtool > /dev/null 2>&1") != 0) GTEST_SKIP() << "no promtool";
  EngineHarness harness;
  Call(*harness.engine, MakeRequest(MakePrompt(1, 40), 10)).Read();
  const std::string path = testing::TempDir() + "/kvserve_metrics.txt";
  std::ofstream(path) << harness.metrics.Serialize();
  FILE* lint = popen(("promtool check metrics < '" + path + "' 2>&1").c_str(), "r");
  ASSERT_NE(lint, nullptr);
  char line[1024];
  while (fgets(line, sizeof line, lint) != nullptr) {
    const std::string complaint = line;
    const bool expected =
        complaint.find("should not contain ':'") != std::string::npos ||
        complaint.find("vllm:iteration_tokens_total non-counter") != std::string::npos;
    EXPECT_TRUE(expected) << complaint;
  }
  pclose(lint);
  std::remove(path.c_str());
}

}  // namespace
}  // namespace kvs::test
