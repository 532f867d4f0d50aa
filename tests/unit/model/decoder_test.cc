// The network's invariants: the same bits cold, chunked, batched and continued from shared blocks;
// no allocation in a step.
#include "model/decoder.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <string>

#include "unit/model/model_fixture.h"
#include "unit/model/model_runner.h"

namespace {

std::atomic<bool> count_allocations{false};
std::atomic<uint64_t> num_allocations{0};

void* CountedAllocation(size_t bytes) {
  if (count_allocations) ++num_allocations;
  if (void* p = std::malloc(bytes)) return p;
  std::abort();
}

}  // namespace

// Replaced for the whole test program; every thread's allocations count.
void* operator new(size_t bytes) { return CountedAllocation(bytes); }
void* operator new[](size_t bytes) { return CountedAllocation(bytes); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }
void operator delete[](void* p, size_t) noexcept { std::free(p); }

namespace kvs {
namespace {

// Token ids that look like text to no one but differ from one another.
std::vector<TokenId> SomeTokens(size_t count, uint32_t vocab_size, uint32_t seed) {
  std::vector<TokenId> tokens;
  uint32_t state = seed;
  for (size_t i = 0; i < count; ++i) {
    state = state * 1664525u + 1013904223u;
    tokens.push_back({(state >> 8) % vocab_size});
  }
  return tokens;
}

struct Format {
  DType dtype;
  KvCacheDType kv_dtype;
  uint32_t block_size;
};

class DecoderFormatTest : public ::testing::TestWithParam<Format> {
 protected:
  ModelLoadOptions Options() const {
    return ModelRunner::Options(DefaultModelDir(), GetParam().dtype, GetParam().kv_dtype,
                                GetParam().block_size);
  }
};

TEST_P(DecoderFormatTest, ChunksAndCompanyChangeNoBit) {
  ModelRunner runner(Options());
  ASSERT_TRUE(runner.ok());
  const auto tokens = SomeTokens(150, 4096, 1);
  TestSequence cold = runner.NewSequence(tokens);
  const Logits expected = runner.RunAll(cold, 512);
  ASSERT_EQ(expected.size(), tokens.size());
  for (const uint32_t chunk : {1u, 7u, 16u, 100u}) {
    TestSequence chunked = runner.NewSequence(tokens);
    EXPECT_EQ(runner.RunAll(chunked, chunk), expected) << "chunks of " << chunk;
  }

  TestSequence batched = runner.NewSequence(tokens);
  TestSequence company = runner.NewSequence(SomeTokens(200, 4096, 2));
  runner.Run({runner.Slice(batched, 60, 0), runner.Slice(company, 31, 31)});
  Logits rows = runner.Run({runner.Slice(company, 90, 2), runner.Slice(batched, 90, 90)});
  rows.erase(rows.begin(), rows.begin() + 2);
  EXPECT_EQ(rows, Logits(expected.begin() + 60, expected.end()));
}

TEST_P(DecoderFormatTest, APrefixComputedByAnotherChangesNoBit) {
  ModelRunner runner(Options());
  ASSERT_TRUE(runner.ok());
  const auto tokens = SomeTokens(150, 4096, 1);
  TestSequence cold = runner.NewSequence(tokens);
  const Logits expected = runner.RunAll(cold, 512);

  auto other_tokens = tokens;
  other_tokens.resize(140);
  TestSequence first = runner.NewSequence(other_tokens);
  runner.RunAll(first, 33);
  TestSequence second = runner.NewSequence(tokens);
  const uint32_t num_shared = 140 / GetParam().block_size;
  second.blocks.assign(first.blocks.begin(), first.blocks.begin() + num_shared);
  second.num_computed = num_shared * GetParam().block_size;
  const uint32_t start = second.num_computed;
  EXPECT_EQ(runner.RunAll(second, 5), Logits(expected.begin() + start, expected.end()));
}

INSTANTIATE_TEST_SUITE_P(Formats, DecoderFormatTest,
                         ::testing::Values(Format{DType::kF32, KvCacheDType::kF32, 16},
                                           Format{DType::kBf16, KvCacheDType::kBf16, 16},
                                           Format{DType::kF16, KvCacheDType::kF16, 64},
                                           Format{DType::kBf16, KvCacheDType::kF8E4M3, 16},
                                           Format{DType::kBf16, KvCacheDType::kF8E5M2, 32}));

TEST(DecoderTest, AStepAllocatesNothing) {
  const auto options = ModelRunner::Options(DefaultModelDir(), DType::kBf16, KvCacheDType::kF8E4M3);
  const ModelConfig config = *ReadModelConfig(options.model_dir);
  auto backend = *MakeCpuBackend({.num_threads = 2});
  const auto model = *Model::Load(config, options, *backend);
  const auto tokens = SomeTokens(300, config.vocab_size, 3);
  const std::vector<BlockId> first = {{1}, {2}, {3}, {4}, {5}, {6}};
  const std::vector<BlockId> second = {{7}, {8}, {9}, {10}, {11}, {12}};
  const auto view = [&](size_t begin, size_t count) {
    return std::span(tokens).subspan(begin, count);
  };
  StepPlan prefill;
  prefill.slices = {{view(0, 90), 0, first, 1}, {view(100, 40), 0, second, 0}};
  prefill.num_tokens = 130;
  prefill.num_logits_rows = 1;
  StepPlan mixed;
  mixed.slices = {{view(90, 1), 90, first, 1}, {view(140, 30), 40, second, 30}};
  mixed.num_tokens = 31;
  mixed.num_logits_rows = 31;
  std::vector<SampleRow> rows(2);  // greedy, then drawn
  for (SampleRow& row : rows) {
    row = SampleRow{};
    row.top_p = 1.0f;
    row.repetition_penalty = 1.0f;
    row.draw = true;
    row.num_logprobs = 5;
  }
  rows[1].logits_row = 30;
  rows[1].temperature = 0.8f;
  rows[1].top_p = 0.9f;
  rows[1].top_k = 40;
  rows[1].uniform = 0.5;
  std::vector<SampleResult> results(rows.size());

  num_allocations = 0;
  count_allocations = true;
  for (const StepPlan* plan : {&prefill, &mixed, &mixed}) {
    float* logits = model->Forward(*plan);
    if (plan == &mixed) model->Sample(rows, results, logits);
  }
  count_allocations = false;
  EXPECT_EQ(num_allocations, 0u);
  EXPECT_LT(results[0].token.value, config.vocab_size);
  EXPECT_LT(results[1].token.value, config.vocab_size);

  count_allocations = true;  // the counter counts
  delete new int(1);
  count_allocations = false;
  EXPECT_GE(num_allocations, 1u);
}

using LlamaDeathTest = ::testing::Test;

TEST(LlamaDeathTest, APlanBeyondTheLimitsAborts) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  ModelRunner runner(ModelRunner::Options(DefaultModelDir(), DType::kBf16, KvCacheDType::kBf16));
  ASSERT_TRUE(runner.ok());
  TestSequence sequence = runner.NewSequence(SomeTokens(20, 4096, 1));
  sequence.tokens[3] = TokenId{4096};
  EXPECT_DEATH(runner.Run({runner.Slice(sequence, 20, 1)}), "vocab_size");
}

}  // namespace
}  // namespace kvs
