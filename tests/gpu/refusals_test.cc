// What is refused before a device is touched, and in which words: needs no device.
#include <gtest/gtest.h>

#include <string>

#include "gpu/attention.h"
#include "gpu/device_facts.h"
#include "gpu/experts.h"
#include "gpu/gpu_backend.h"
#include "gpu/sample.h"

namespace kvs::gpu {
namespace {

// The message has every one of `words`, and the right code.
template <class T>
void ExpectRefused(const Result<T>& result, Code code, const std::vector<std::string>& words) {
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), code);
  for (const std::string& word : words) {
    EXPECT_NE(result.error().message().find(word), std::string::npos)
        << "'" << word << "' is not in: " << result.error().message();
  }
}

KvLayout Layout(uint32_t head_dim, KvCacheDType dtype) {
  return {
      .num_layers = 1, .num_kv_heads = 2, .head_dim = head_dim, .block_size = 16, .dtype = dtype};
}

TEST(GpuRefusals, ADeviceThatIsNotThere) {
  const auto facts = ReadDeviceFacts(99);
  ExpectRefused(facts, Code::kUnavailable,
                {std::string("--device ") + kDeviceKind + ": ", ", or use --device cpu"});
  EXPECT_EQ(facts.error().param(), "--device");
  const std::string& message = facts.error().message();
  EXPECT_TRUE(message.find("driver") != std::string::npos ||
              message.find("device 99 does not exist; there are ") != std::string::npos)
      << message;
}

TEST(GpuRefusals, WeightsInFloat32) {
  GpuBackendOptions options;
  options.dtype = DType::kF32;
  const auto backend = OpenGpuBackend(options);
  ExpectRefused(backend, Code::kInvalidArgument,
                {"--dtype: got float32", "bfloat16 or float16", "--device cpu"});
  EXPECT_EQ(backend.error().param(), "--dtype");
}

TEST(GpuRefusals, AttentionOfOtherShapes) {
  DeviceFacts facts;
  facts.num_multiprocessors = 128;
  facts.max_shared_bytes = 101376;  // compute capability 8.6 and 8.9
  EXPECT_TRUE(AttentionOp::CheckSupport(Layout(128, KvCacheDType::kF8E4M3), 32, facts));
  EXPECT_TRUE(AttentionOp::CheckSupport(Layout(256, KvCacheDType::kBf16), 32, facts));
  ExpectRefused(AttentionOp::CheckSupport(Layout(128, KvCacheDType::kF32), 32, facts),
                Code::kInvalidArgument, {"--kv-cache-dtype", "float32", "fp8_e4m3"});
  ExpectRefused(AttentionOp::CheckSupport(Layout(96, KvCacheDType::kBf16), 32, facts),
                Code::kDataError, {"head_dim is 96", "64, 128 and 256"});
  ExpectRefused(AttentionOp::CheckSupport(Layout(64, KvCacheDType::kBf16), 66, facts),
                Code::kDataError, {"33 query heads share a KV head", "at most 16"});
  facts.max_shared_bytes = 32768;
  ExpectRefused(AttentionOp::CheckSupport(Layout(256, KvCacheDType::kBf16), 32, facts),
                Code::kDataError, {"32768 bytes of shared memory", "head_dim 256"});
}

TEST(GpuRefusals, MoreExpertsThanTheKernelsServe) {
  BackendLimits limits{};
  limits.max_num_batched_tokens = 1;
  limits.experts = {.num_experts = 512, .num_per_token = 8};
  ExpectRefused(ExpertOps().Reserve(limits), Code::kInvalidArgument,
                {"num_experts 512", "at most 256", "--device cpu"});
  limits.experts = {.num_experts = 64, .num_per_token = 33};
  ExpectRefused(ExpertOps().Reserve(limits), Code::kInvalidArgument,
                {"num_experts_per_tok 33", "and 32"});
}

TEST(GpuRefusals, AVocabularyBeyondTheSampler) {
  BackendLimits limits{};
  limits.max_num_logits_rows = 1;
  limits.vocab_size = kMaxVocab + 1;
  ExpectRefused(SampleOp().Reserve(limits), Code::kInvalidArgument,
                {"vocab_size 1048577", "at most 1048576"});
}

}  // namespace
}  // namespace kvs::gpu
