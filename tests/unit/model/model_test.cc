// Loading: made-up checkpoints in every form, dummy weights, and what is refused.
#include "model/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "kvserve/float_bits.h"
#include "model/safetensors.h"
#include "unit/model/model_fixture.h"
#include "unit/model/model_runner.h"

namespace kvs {
namespace {

using ::testing::HasSubstr;

ModelConfig TinyConfig() {
  ModelConfig config;
  config.architecture = "LlamaForCausalLM";
  config.vocab_size = 96;
  config.hidden_size = 64;
  config.intermediate_size = 80;
  config.num_layers = 2;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 32;
  config.max_position_embeddings = 512;
  config.tie_word_embeddings = true;
  return config;
}

// Values that BF16, F16 and F32 all hold exactly.
std::string Elements(const std::string& name, size_t count, const std::string& dtype) {
  std::string bytes;
  uint32_t state = 17;
  for (const char c : name) state = state * 31 + static_cast<unsigned char>(c);
  for (size_t i = 0; i < count; ++i) {
    state = state * 1664525u + 1013904223u;
    const float value = (static_cast<float>((state >> 24) % 128) - 64.0f) / 256.0f;
    const uint16_t half = dtype == "BF16" ? FloatToBf16(value) : FloatToF16(value);
    bytes.append(dtype == "F32" ? reinterpret_cast<const char*>(&value)
                                : reinterpret_cast<const char*>(&half),
                 dtype == "F32" ? 4 : 2);
  }
  return bytes;
}

std::vector<TestTensor> TinyTensors(const std::string& dtype) {
  std::vector<TestTensor> tensors;
  const auto add = [&](const std::string& name, std::vector<uint64_t> shape) {
    size_t count = 1;
    for (const uint64_t extent : shape) count *= extent;
    tensors.push_back({name, dtype, shape, Elements(name, count, dtype)});
  };
  add("model.embed_tokens.weight", {96, 64});
  for (int layer = 0; layer < 2; ++layer) {
    const std::string at = "model.layers." + std::to_string(layer) + ".";
    add(at + "input_layernorm.weight", {64});
    add(at + "self_attn.q_proj.weight", {128, 64});
    add(at + "self_attn.k_proj.weight", {64, 64});
    add(at + "self_attn.v_proj.weight", {64, 64});
    add(at + "self_attn.o_proj.weight", {64, 128});
    add(at + "post_attention_layernorm.weight", {64});
    add(at + "mlp.gate_proj.weight", {80, 64});
    add(at + "mlp.up_proj.weight", {80, 64});
    add(at + "mlp.down_proj.weight", {64, 80});
  }
  add("model.norm.weight", {64});
  return tensors;
}

void WriteTiny(const TempDir& dir, const std::vector<TestTensor>& tensors) {
  WriteFile(dir / "model.safetensors", SafetensorsBytes(tensors));
}

const std::vector<TokenId> kPrompt = {{1}, {90}, {17}, {3}, {55}, {4}, {4}, {31}};

Logits RunPrompt(const ModelConfig& config, const ModelLoadOptions& options) {
  ModelRunner runner(config, options);
  if (!runner.ok()) return {};
  TestSequence sequence = runner.NewSequence(kPrompt);
  return runner.RunAll(sequence, 512);
}

ModelLoadOptions Float32Options(const TempDir& dir) {
  return ModelRunner::Options(dir.path(), DType::kF32, KvCacheDType::kF32);
}

TEST(ModelTest, ReadsEveryCheckpointDType) {
  const TempDir dir;
  WriteTiny(dir, TinyTensors("F32"));
  const Logits expected = RunPrompt(TinyConfig(), Float32Options(dir));
  ASSERT_EQ(expected.size(), kPrompt.size());
  for (const float logit : expected.back()) ASSERT_TRUE(std::isfinite(logit));
  for (const char* stored : {"BF16", "F16"}) {
    WriteTiny(dir, TinyTensors(stored));
    EXPECT_EQ(RunPrompt(TinyConfig(), Float32Options(dir)), expected) << stored;
  }
  // The weights are exact in 16 bits, so only the activations' rounding may differ.
  const auto half = ModelRunner::Options(dir.path(), DType::kF16, KvCacheDType::kF16);
  const Logits rounded = RunPrompt(TinyConfig(), half);
  for (size_t i = 0; i < rounded.back().size(); ++i) {
    EXPECT_NEAR(rounded.back()[i], expected.back()[i], 0.05);
  }
}

TEST(ModelTest, TiedAndUntiedOutput) {
  const TempDir dir;
  auto tensors = TinyTensors("BF16");
  WriteTiny(dir, tensors);
  const Logits tied = RunPrompt(TinyConfig(), Float32Options(dir));

  ModelConfig untied_config = TinyConfig();
  untied_config.tie_word_embeddings = false;
  tensors.push_back(tensors.front());
  tensors.back().name = "lm_head.weight";
  WriteTiny(dir, tensors);
  EXPECT_EQ(RunPrompt(untied_config, Float32Options(dir)), tied);
  tensors.back().bytes = Elements("lm_head.weight", 96 * 64, "BF16");
  WriteTiny(dir, tensors);
  EXPECT_NE(RunPrompt(untied_config, Float32Options(dir)), tied);
  EXPECT_EQ(RunPrompt(TinyConfig(), Float32Options(dir)), tied);  // a stored copy is not read
}

TEST(ModelTest, ShardedEqualsSingle) {
  const auto options = ModelRunner::Options(DefaultModelDir(), DType::kBf16, KvCacheDType::kBf16);
  const ModelConfig config = *ReadModelConfig(DefaultModelDir());
  const Logits sharded = RunPrompt(config, options);

  std::vector<TestTensor> tensors;
  for (const char* shard :
       {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}) {
    const auto file = SafetensorsFile::Open(DefaultModelDir() / shard);
    ASSERT_TRUE(file) << file.error().message();
    for (const auto& [name, tensor] : file->tensors()) {
      tensors.push_back({name, tensor.dtype_name, tensor.shape,
                         std::string(reinterpret_cast<const char*>(file->Data(tensor)),
                                     tensor.end - tensor.begin)});
    }
  }
  const TempDir dir;
  WriteFile(dir / "model.safetensors", SafetensorsBytes(tensors));
  auto single_options = options;
  single_options.model_dir = dir.path();
  EXPECT_EQ(RunPrompt(config, single_options), sharded);
}

TEST(ModelTest, ReportsProgressAndSize) {
  const TempDir dir;
  WriteTiny(dir, TinyTensors("BF16"));
  auto options = ModelRunner::Options(dir.path(), DType::kBf16, KvCacheDType::kBf16);
  std::vector<std::pair<uint64_t, uint64_t>> calls;
  options.progress = [&](uint64_t done, uint64_t total) { calls.emplace_back(done, total); };
  ModelRunner runner(TinyConfig(), options);
  ASSERT_TRUE(runner.ok());
  const uint64_t matrices = 96 * 64 + 2 * (128 + 64 + 64 + 128 + 3 * 80) * 64;
  EXPECT_EQ(runner.model().weight_bytes(), matrices * 2 + 5 * 64 * 4);
  ASSERT_FALSE(calls.empty());
  for (size_t i = 1; i < calls.size(); ++i) EXPECT_GT(calls[i].first, calls[i - 1].first);
  EXPECT_EQ(calls.back(), std::pair(runner.model().weight_bytes(), runner.model().weight_bytes()));
  EXPECT_EQ(runner.model().kv_layout().TokenBytes(), 2u * 2 * 2 * 32 * 2);
}

TEST(ModelTest, DummyWeightsNeedNoFiles) {
  ModelLoadOptions options =
      ModelRunner::Options("/nonexistent", DType::kBf16, KvCacheDType::kBf16);
  options.load_format = LoadFormat::kDummy;
  options.seed = 5;
  ModelConfig config = TinyConfig();
  config.tie_word_embeddings = false;
  const Logits first = RunPrompt(config, options);
  ASSERT_EQ(first.size(), kPrompt.size());
  for (const float logit : first.back()) ASSERT_TRUE(std::isfinite(logit));
  EXPECT_GT(TopMargin(first.back()), 0.0f);
  EXPECT_EQ(RunPrompt(config, options), first);
  options.seed = 6;
  EXPECT_NE(RunPrompt(config, options), first);
}

Status LoadError(const ModelConfig& config, const ModelLoadOptions& options) {
  auto backend = *MakeCpuBackend({.num_threads = 1});
  auto model = Model::Load(config, options, *backend);
  if (model) return Status(Code::kInternal, "loaded");
  return model.error();
}

TEST(ModelTest, NamesTheTensorAtFault) {
  const TempDir dir;
  const auto options = Float32Options(dir);
  EXPECT_EQ(LoadError(TinyConfig(), options).code(), Code::kNotFound);

  auto tensors = TinyTensors("BF16");
  tensors.erase(tensors.begin() + 3);  // model.layers.0.self_attn.k_proj.weight
  WriteTiny(dir, tensors);
  Status error = LoadError(TinyConfig(), options);
  EXPECT_EQ(error.code(), Code::kDataError);
  EXPECT_THAT(error.message(), HasSubstr("'model.layers.0.self_attn.k_proj.weight' is missing"));

  WriteTiny(dir, TinyTensors("BF16"));
  ModelConfig other = TinyConfig();
  other.num_kv_heads = 1;
  error = LoadError(other, options);
  EXPECT_THAT(error.message(), HasSubstr("k_proj.weight' has shape [64, 64]; config.json asks "
                                         "for [32, 64]"));
  other = TinyConfig();
  other.tie_word_embeddings = false;
  EXPECT_THAT(LoadError(other, options).message(), HasSubstr("'lm_head.weight' is missing"));

  other = TinyConfig();
  other.num_layers = 1;
  EXPECT_THAT(LoadError(other, options).message(),
              HasSubstr("tensor 'model.layers.1.input_layernorm.weight' has no place"));

  tensors = TinyTensors("BF16");
  tensors.push_back(
      {"model.layers.0.self_attn.q_proj.bias", "BF16", {128}, Elements("bias", 128, "BF16")});
  WriteTiny(dir, tensors);
  EXPECT_THAT(LoadError(TinyConfig(), options).message(),
              HasSubstr("tensor 'model.layers.0.self_attn.q_proj.bias' has no place"));
  tensors.back() = {
      "model.layers.0.self_attn.rotary_emb.inv_freq", "F32", {16}, Elements("inv_freq", 16, "F32")};
  WriteTiny(dir, tensors);
  EXPECT_EQ(LoadError(TinyConfig(), options).message(), "loaded");
}

TEST(ModelTest, RefusesWhatCannotBe) {
  const TempDir dir;
  ModelLoadOptions options = Float32Options(dir);
  options.load_format = LoadFormat::kDummy;
  ModelConfig config = TinyConfig();
  config.architecture = "MambaForCausalLM";
  Status error = LoadError(config, options);
  EXPECT_EQ(error.code(), Code::kDataError);
  EXPECT_THAT(error.message(), HasSubstr("'MambaForCausalLM' is not supported; supported: Llama"));

  options.num_blocks = 1u << 28;  // 2^32 slots of 16 tokens
  error = LoadError(TinyConfig(), options);
  EXPECT_EQ(error.code(), Code::kInvalidArgument);
  EXPECT_THAT(error.message(), HasSubstr("a KV cache of 268435456 blocks of 16 tokens"));
}

}  // namespace
}  // namespace kvs
