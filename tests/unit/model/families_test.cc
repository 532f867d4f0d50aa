// Every family against Hugging Face Transformers in float32: tests/fixtures/make_families.py.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "model/safetensors.h"
#include "unit/model/model_fixture.h"
#include "unit/model/model_runner.h"

namespace kvs {
namespace {

constexpr size_t kNumPrompts = 6;

std::filesystem::path FamilyDir(const std::string& family) {
  return std::filesystem::path(KVS_SOURCE_DIR) / "tests" / "fixtures" / "families" / family;
}

// What Transformers computed for one prompt.
struct Expected {
  std::vector<TokenId> prompt;
  std::vector<size_t> rows;   // positions whose logits are known
  std::vector<float> logits;  // [rows][vocab_size]
  std::vector<TokenId> output;
};

template <class T>
std::vector<T> ReadTensor(const SafetensorsFile& file, const std::string& name) {
  const StoredTensor& tensor = file.tensors().at(name);
  std::vector<T> values((tensor.end - tensor.begin) / sizeof(T));
  std::memcpy(values.data(), file.Data(tensor), values.size() * sizeof(T));
  return values;
}

std::vector<Expected> ReadExpected(const std::string& family) {
  const auto file = SafetensorsFile::Open(FamilyDir(family) / "expected.safetensors");
  EXPECT_TRUE(file) << file.error().message();
  std::vector<Expected> all(kNumPrompts);
  for (size_t i = 0; i < kNumPrompts; ++i) {
    std::string at = ".";
    at += std::to_string(i);
    for (const int64_t id : ReadTensor<int64_t>(*file, "prompt" + at)) {
      all[i].prompt.push_back({static_cast<uint32_t>(id)});
    }
    for (const int64_t row : ReadTensor<int64_t>(*file, "rows" + at)) {
      all[i].rows.push_back(static_cast<size_t>(row));
    }
    all[i].logits = ReadTensor<float>(*file, "logits" + at);
    for (const int64_t id : ReadTensor<int64_t>(*file, "output" + at)) {
      all[i].output.push_back({static_cast<uint32_t>(id)});
    }
  }
  return all;
}

class FamilyTest : public ::testing::TestWithParam<const char*> {
 protected:
  static ModelLoadOptions Options(DType dtype, KvCacheDType kv_dtype) {
    return ModelRunner::Options(FamilyDir(GetParam()), dtype, kv_dtype);
  }
};

// Prompts in chunks of several sizes, so that chunks, blocks of 16 and windows end everywhere.
TEST_P(FamilyTest, LogitsAreThoseOfTransformers) {
  ModelRunner runner(Options(DType::kF32, KvCacheDType::kF32));
  ASSERT_TRUE(runner.ok());
  const size_t vocab_size = runner.model().config().vocab_size;
  float largest = 0.0f;
  for (const Expected& expected : ReadExpected(GetParam())) {
    for (const uint32_t chunk : {7u, 16u, 512u}) {
      TestSequence sequence = runner.NewSequence(expected.prompt);
      const Logits logits = runner.RunAll(sequence, chunk);
      for (size_t i = 0; i < expected.rows.size(); ++i) {
        for (size_t id = 0; id < vocab_size; ++id) {
          const float want = expected.logits[i * vocab_size + id];
          largest = std::max(largest, std::abs(logits[expected.rows[i]][id] - want));
        }
      }
    }
  }
  EXPECT_LT(largest, 1e-3f);
  RecordProperty("largest_difference", std::to_string(largest));
}

// All prompts decode together. The blocks that no later query sees are taken away on the way.
TEST_P(FamilyTest, GreedyIdsAreThoseOfTransformers) {
  ModelRunner runner(Options(DType::kF32, KvCacheDType::kF32));
  ASSERT_TRUE(runner.ok());
  const uint32_t window = runner.model().config().Window();
  const std::vector<Expected> all = ReadExpected(GetParam());
  std::vector<TestSequence> sequences;
  for (const Expected& expected : all) sequences.push_back(runner.NewSequence(expected.prompt));
  for (size_t step = 0; step < all[0].output.size(); ++step) {
    std::vector<ScheduledSlice> slices;
    for (TestSequence& sequence : sequences) {
      const uint32_t end = sequence.num_computed;
      for (uint32_t b = 0; window > 0 && b * 16 + 16 + window <= end + 1; ++b) {
        sequence.blocks[b] = kNullBlock;
      }
      const auto n = static_cast<uint32_t>(sequence.tokens.size()) - sequence.num_computed;
      slices.push_back(runner.Slice(sequence, n, 1));
    }
    const Logits rows = runner.Run(std::move(slices));
    for (size_t i = 0; i < all.size(); ++i) {
      const TokenId id{ArgMax(rows[i])};
      ASSERT_EQ(id, all[i].output[step]) << "prompt " << i << ", step " << step;
      sequences[i].tokens.push_back(id);
    }
  }
}

// Cold equals chunked, bit for bit, in the formats that are served.
TEST_P(FamilyTest, ChunksDoNotChangeABit) {
  for (const KvCacheDType kv_dtype : {KvCacheDType::kBf16, KvCacheDType::kF8E4M3}) {
    ModelRunner runner(Options(DType::kBf16, kv_dtype));
    ASSERT_TRUE(runner.ok());
    const auto prompt = ReadExpected(GetParam()).back().prompt;
    TestSequence whole = runner.NewSequence(prompt);
    TestSequence chunked = runner.NewSequence(prompt);
    EXPECT_EQ(runner.RunAll(whole, 512), runner.RunAll(chunked, 11)) << ToString(kv_dtype);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, FamilyTest,
                         ::testing::Values("llama2", "llama3", "llama_linear", "mistral", "mixtral",
                                           "qwen2", "qwen2_yarn", "qwen2_window", "qwen3",
                                           "qwen3_moe", "llama_fp8_static", "qwen3_fp8_dynamic",
                                           "llama_fp8_block", "llama_fp8_modelopt"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace kvs
