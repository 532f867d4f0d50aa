#include "model/warm_up.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "unit/model/model_runner.h"

namespace kvs {
namespace {

Logits LogitsAfter(bool warm, StepLimits limits, uint32_t num_blocks) {
  const auto dir =
      std::filesystem::path(KVS_SOURCE_DIR) / "tests" / "fixtures" / "families" / "llama2";
  ModelLoadOptions options = ModelRunner::Options(dir, DType::kF32, KvCacheDType::kF32);
  options.limits = limits;
  options.num_blocks = num_blocks;
  ModelRunner runner(options);
  if (!runner.ok()) return {};
  if (warm) WarmUp(limits, runner.model());
  TestSequence sequence = runner.NewSequence({{3}, {90}, {17}, {4}, {4}, {31}});
  return runner.RunAll(sequence, 4);
}

TEST(WarmUpTest, LeavesNoTrace) {
  const StepLimits limits = {.max_num_seqs = 8,
                             .max_num_batched_tokens = 512,
                             .max_model_len = 512,
                             .max_num_logits_rows = 512,
                             .block_size = 16};
  EXPECT_EQ(LogitsAfter(true, limits, 64), LogitsAfter(false, limits, 64));
}

TEST(WarmUpTest, FitsIntoTheSmallestServer) {
  const StepLimits limits = {.max_num_seqs = 1,
                             .max_num_batched_tokens = 4,
                             .max_model_len = 16,
                             .max_num_logits_rows = 4,
                             .block_size = 8};
  EXPECT_EQ(LogitsAfter(true, limits, 1), LogitsAfter(false, limits, 1));
}

}  // namespace
}  // namespace kvs
