// What `kvserve doctor` asks of a GPU, asked of its kernels: every FP8 code through the whole
// backend's cache.
#include "doctor/fp8_self_test.h"

#include <gtest/gtest.h>

#include "gpu/gpu_backend.h"

namespace kvs {
namespace {

class Fp8SelfTestOfTheGpu : public testing::TestWithParam<KvCacheDType> {};

TEST_P(Fp8SelfTestOfTheGpu, EveryCodeIsWrittenAndReadAsSpecified) {
  const auto backend = gpu::OpenGpuBackend({});
  ASSERT_TRUE(backend) << backend.error().message();
  const auto test =
      Fp8SelfTest::Make(**backend, {.head_dim = 64, .num_heads = 2, .block_size = 16});
  ASSERT_TRUE(test) << test.error().message();
  const auto report = (*test)->Run(GetParam());
  ASSERT_TRUE(report) << report.error().message();
  EXPECT_EQ(report->num_failed, 0u);
  for (const std::string& failure : report->failures) ADD_FAILURE() << failure;
  EXPECT_GE(report->num_decoded, 3u * 256);
}

INSTANTIATE_TEST_SUITE_P(Types, Fp8SelfTestOfTheGpu,
                         testing::Values(KvCacheDType::kF8E4M3, KvCacheDType::kF8E5M2));

}  // namespace
}  // namespace kvs
