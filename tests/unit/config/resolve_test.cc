#include "parse_support.h"

namespace kvs::test {
namespace {

TEST(Resolve, DefaultsAreTheModels) {
  const auto options = Resolve({});
  ASSERT_TRUE(options) << options.error().message();
  EXPECT_EQ(options->dtype, DType::kBf16);
  EXPECT_EQ(options->kv_dtype, KvCacheDType::kBf16);
  EXPECT_EQ(options->kv_bytes_per_token, 4096u);
  EXPECT_EQ(options->kv_pool_bytes, kCpuKvCacheBytesDefault);
  EXPECT_EQ(options->kv_pool_tokens, kCpuKvCacheBytesDefault / 4096);
  EXPECT_EQ(options->kv_pool_tokens_bf16, options->kv_pool_tokens);
  EXPECT_EQ(options->max_model_len, 8192u);
  EXPECT_EQ(options->max_num_logits_rows, 128u + 64u);
  EXPECT_EQ(options->http.max_connections, 128u + 1024u + 64u);
  EXPECT_EQ(options->served_model_names, (std::vector<std::string>{"default"}));
}

TEST(Resolve, CalibratingOnRequestsSequencesFitThePoolWhileItIsBf16) {
  const auto options = Resolve(
      {"--kv-cache-dtype", "fp8", "--calibrate-on-requests", "8", "--kv-cache-tokens", "1024"});
  ASSERT_TRUE(options) << options.error().message();
  EXPECT_EQ(options->kv_dtype, KvCacheDType::kF8E4M3);
  EXPECT_EQ(options->num_blocks, 64u);
  EXPECT_EQ(options->num_calibration_blocks, 32u);
  EXPECT_EQ(options->max_model_len, 512u);
}

TEST(Resolve, AutoKvDtypeFollowsTheWeights) {
  EXPECT_EQ(Resolve({"--dtype", "float32"})->kv_dtype, KvCacheDType::kF32);
  EXPECT_EQ(Resolve({"--dtype", "float16"})->kv_dtype, KvCacheDType::kF16);
  ModelConfig config = SmallModel();
  config.checkpoint_dtype = DType::kF32;
  EXPECT_EQ(Resolve({}, config)->dtype, DType::kF32);
  EXPECT_EQ(Resolve({"--kv-cache-dtype", "fp8"}, config)->kv_dtype, KvCacheDType::kF8E4M3);
}

TEST(Resolve, SameBytesHoldTwiceTheTokensInFp8) {
  const auto bf16 = Resolve({"--kv-cache-memory-bytes", "1000000"});
  const auto fp8 = Resolve({"--kv-cache-memory-bytes", "1000000", "--kv-cache-dtype", "fp8"});
  EXPECT_EQ(fp8->kv_pool_tokens, 2 * bf16->kv_pool_tokens);
  EXPECT_EQ(fp8->kv_pool_bytes, bf16->kv_pool_bytes);
  EXPECT_EQ(fp8->kv_pool_tokens_bf16, bf16->kv_pool_tokens);
  EXPECT_EQ(fp8->kv_bytes_per_token, 2048u);
}

TEST(Resolve, SameTokensTakeHalfTheBytesInFp8) {
  const auto bf16 = Resolve({"--kv-cache-tokens", "10001"});
  const auto fp8 = Resolve({"--kv-cache-tokens", "10001", "--kv-cache-dtype", "fp8"});
  EXPECT_EQ(bf16->kv_pool_tokens, 10016u);  // whole blocks, not fewer than asked
  EXPECT_EQ(fp8->kv_pool_tokens, 10016u);
  EXPECT_EQ(fp8->kv_pool_bytes * 2, bf16->kv_pool_bytes);
}

TEST(Resolve, BlocksOverrideIsTakenAsItIs) {
  const auto options = Resolve({"--num-gpu-blocks-override", "40", "--block-size", "64"});
  EXPECT_EQ(options->num_blocks, 40u);
  EXPECT_EQ(options->kv_pool_tokens, 2560u);
  EXPECT_EQ(options->max_model_len, 2560u);
  EXPECT_EQ(options->model_max_len, 8192u);
}

TEST(Resolve, ExplicitLengthThatFitsIsKept) {
  EXPECT_EQ(Resolve({"--max-model-len", "100", "--kv-cache-tokens", "112"})->max_model_len, 100u);
}

TEST(Resolve, ScalesAreForFp8) {
  const auto options = Resolve({"--kv-cache-dtype", "fp8", "--calculate-kv-scales"});
  ASSERT_TRUE(options) << options.error().message();
  EXPECT_TRUE(options->calculate_kv_scales);
  EXPECT_FALSE(Resolve({"--kv-cache-dtype", "fp8"})->calculate_kv_scales);
}

TEST(Resolve, AutoKvDtypeFollowsTheCheckpointsScheme) {
  ModelConfig config = SmallModel();
  config.kv_scheme = KvQuantScheme{.where = "config.json: kv_cache_scheme"};
  EXPECT_EQ(Resolve({}, config)->kv_dtype, KvCacheDType::kF8E4M3);
  EXPECT_EQ(Resolve({"--kv-cache-dtype", "bfloat16"}, config)->kv_dtype, KvCacheDType::kBf16);
  config.kv_scheme->unsupported = "is 'NVFP4'; supported: FP8";
  const auto refused = Resolve({}, config);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message(),
            "--kv-cache-dtype: 'auto' follows the checkpoint, but config.json: kv_cache_scheme is "
            "'NVFP4'; supported: FP8; ask for bfloat16, float16, fp8 or fp8_e5m2");
  EXPECT_EQ(Resolve({"--kv-cache-dtype", "fp8"}, config)->kv_dtype, KvCacheDType::kF8E4M3);
}

TEST(Resolve, LayersKeptInBf16CostWhatTheyTake) {
  const auto options = Resolve({"--kv-cache-dtype", "fp8", "--kv-cache-dtype-skip-layers", "3", "1",
                                "3", "--kv-cache-memory-bytes", "1000000"});
  ASSERT_TRUE(options) << options.error().message();
  EXPECT_EQ(options->kv_bf16_layers, (std::vector<uint32_t>{1, 3}));
  EXPECT_EQ(options->kv_bytes_per_token, 6 * 256u + 2 * 512u);
  EXPECT_EQ(options->num_blocks, 1000000 / (16 * 2560u));
  EXPECT_EQ(options->kv_pool_bytes, options->num_blocks * 16 * 2560u);
}

TEST(Resolve, KeyFileJoinsTheKeys) {
  const TempDir dir;
  const std::string file = dir.Write("keys", "k2\n");
  const auto options = Resolve({"--api-key", "k1", "--api-key-file", file});
  ASSERT_TRUE(options);
  EXPECT_EQ(options->http.api_keys, (std::vector<std::string>{"k1", "k2"}));
}

TEST(Resolve, ConnectionsAreBounded) {
  EXPECT_EQ(Resolve({"--max-num-queued-reqs", "100000"})->http.max_connections, 2048u);
  EXPECT_EQ(Resolve({"--max-connections", "9"})->http.max_connections, 9u);
}

TEST(Resolve, SummaryIsOneLineWithWhatTheArticleLooksFor) {
  const auto options = Resolve({"--kv-cache-dtype", "fp8", "--enable-prefix-caching",
                                "--kv-cache-tokens", "4096", "--api-key", "topsecret"});
  const std::string summary = options->Summary();
  EXPECT_EQ(summary.rfind("kv_cache_dtype=fp8_e4m3 enable_prefix_caching=true block_size=16 "
                          "kv_bytes_per_token=2048 kv_pool_bytes=8388608 kv_pool_blocks=256 "
                          "kv_pool_tokens=4096 kv_pool_tokens_bf16=2048 max_model_len=4096 "
                          "model_max_len=8192 ",
                          0),
            0u)
      << summary;
  EXPECT_EQ(summary.find('\n'), std::string::npos);
  EXPECT_EQ(summary.find("topsecret"), std::string::npos);
}

}  // namespace
}  // namespace kvs::test
