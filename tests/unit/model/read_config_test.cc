#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "model/model.h"
#include "unit/model/model_fixture.h"

namespace kvs {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kSmallConfig[] = R"({
  "architectures": ["LlamaForCausalLM"], "vocab_size": 128, "hidden_size": 64,
  "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
  "num_key_value_heads": 2, "max_position_embeddings": 512, "torch_dtype": "float16",
  "rms_norm_eps": 1e-5, "bos_token_id": 1, "eos_token_id": 2})";

// The small configuration with `patch` merged in (null removes a field), as config.json.
Result<ModelConfig> ReadPatched(const std::string& patch) {
  const TempDir dir;
  auto config = nlohmann::json::parse(kSmallConfig);
  config.merge_patch(nlohmann::json::parse(patch));
  WriteFile(dir / "config.json", config.dump());
  return ReadModelConfig(dir.path());
}

TEST(ReadConfigTest, ReadsTheBundledModel) {
  const auto config = ReadModelConfig(DefaultModelDir());
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->architecture, "LlamaForCausalLM");
  EXPECT_EQ(config->vocab_size, 4096u);
  EXPECT_EQ(config->hidden_size, 384u);
  EXPECT_EQ(config->intermediate_size, 1024u);
  EXPECT_EQ(config->num_layers, 8u);
  EXPECT_EQ(config->num_heads, 6u);
  EXPECT_EQ(config->num_kv_heads, 2u);
  EXPECT_EQ(config->head_dim, 64u);
  EXPECT_EQ(config->max_position_embeddings, 8192u);
  EXPECT_FLOAT_EQ(config->rms_norm_eps, 1e-5f);
  EXPECT_TRUE(config->tie_word_embeddings);
  EXPECT_EQ(config->rope.theta, 500000.0);
  EXPECT_EQ(config->rope.scaling, RopeConfig::Scaling::kNone);
  EXPECT_EQ(config->checkpoint_dtype, DType::kBf16);
  EXPECT_EQ(config->bos_token_id, TokenId{4091});
  EXPECT_THAT(config->eos_token_ids, ElementsAre(TokenId{4095}, TokenId{4092}));
}

TEST(ReadConfigTest, FillsInWhatTransformersFillsIn) {
  const auto config = ReadPatched(
      R"({"num_key_value_heads": null, "rms_norm_eps": null, "eos_token_id": null,
          "bos_token_id": null, "sliding_window": null, "rope_scaling": null})");
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->num_kv_heads, 4u);
  EXPECT_EQ(config->head_dim, 16u);
  EXPECT_FLOAT_EQ(config->rms_norm_eps, 1e-6f);
  EXPECT_FALSE(config->tie_word_embeddings);
  EXPECT_EQ(config->rope.theta, 10000.0);
  EXPECT_EQ(config->checkpoint_dtype, DType::kF16);
  EXPECT_FALSE(config->bos_token_id);
  EXPECT_TRUE(config->eos_token_ids.empty());
}

TEST(ReadConfigTest, ReadsLlama3ScalingUnderBothNames) {
  const std::string scaling =
      R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 8192, "rope_theta": 500000.0})";
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const auto config = ReadPatched("{\"" + std::string(key) + "\": " + scaling + "}");
    ASSERT_TRUE(config) << config.error().message();
    EXPECT_EQ(config->rope.scaling, RopeConfig::Scaling::kLlama3);
    EXPECT_EQ(config->rope.theta, 500000.0);
    EXPECT_EQ(config->rope.factor, 8.0);
    EXPECT_EQ(config->rope.low_freq_factor, 1.0);
    EXPECT_EQ(config->rope.high_freq_factor, 4.0);
    EXPECT_EQ(config->rope.original_max_position_embeddings, 8192u);
  }
}

TEST(ReadConfigTest, AcceptsAWindowThatCoversTheContext) {
  EXPECT_TRUE(ReadPatched(R"({"sliding_window": 512})"));
  EXPECT_TRUE(ReadPatched(R"({"sliding_window": 64, "use_sliding_window": false})"));
}

TEST(ReadConfigTest, JoinsEndTokensOfBothFiles) {
  const TempDir dir;
  WriteFile(dir / "config.json", kSmallConfig);
  WriteFile(dir / "generation_config.json", R"({"bos_token_id": 7, "eos_token_id": [2, 5]})");
  const auto config = ReadModelConfig(dir.path());
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->bos_token_id, TokenId{1});
  EXPECT_THAT(config->eos_token_ids, ElementsAre(TokenId{2}, TokenId{5}));
}

TEST(ReadConfigTest, TakesTheDTypeOfTheWeightsWhenItIsNotWritten) {
  const TempDir dir;
  auto config_json = nlohmann::json::parse(kSmallConfig);
  config_json.erase("torch_dtype");
  WriteFile(dir / "config.json", config_json.dump());
  const auto without = ReadModelConfig(dir.path());
  ASSERT_FALSE(without);
  EXPECT_THAT(without.error().message(), HasSubstr("torch_dtype is missing"));

  WriteFile(dir / "model.safetensors", SafetensorsBytes({{"a", "I64", {1}, std::string(8, 0)},
                                                         {"b", "F32", {1}, std::string(4, 0)}}));
  const auto config = ReadModelConfig(dir.path());
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->checkpoint_dtype, DType::kF32);
}

TEST(ReadConfigTest, ReadsYarnAndLengthensTheContext) {
  const auto config = ReadPatched(
      R"({"rope_scaling": {"type": "yarn", "factor": 4.0, "rope_theta": 1e6,
          "original_max_position_embeddings": 256}})");
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->rope.scaling, RopeConfig::Scaling::kYarn);
  EXPECT_EQ(config->max_position_embeddings, 1024u);
  EXPECT_NEAR(config->rope.attention_factor, 1.138629436111989, 1e-12);
  EXPECT_EQ(config->rope.beta_fast, 32.0);

  const auto deepseek = ReadPatched(
      R"({"rope_parameters": {"rope_type": "yarn", "factor": 40.0, "mscale": 1.0,
          "mscale_all_dim": 0.707, "original_max_position_embeddings": 4096}})");
  ASSERT_TRUE(deepseek) << deepseek.error().message();
  EXPECT_NEAR(deepseek->rope.attention_factor, 1.0857263992561355, 1e-12);

  const auto given =
      ReadPatched(R"({"rope_scaling": {"type": "yarn", "factor": 4.0, "attention_factor": 0.5}})");
  ASSERT_TRUE(given) << given.error().message();
  EXPECT_EQ(given->rope.attention_factor, 0.5);
  EXPECT_EQ(given->rope.original_max_position_embeddings, 512u);
}

TEST(ReadConfigTest, ReadsLinearScalingAndLengthensTheContext) {
  const auto config = ReadPatched(R"({"rope_scaling": {"type": "linear", "factor": 2.5}})");
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->rope.scaling, RopeConfig::Scaling::kLinear);
  EXPECT_EQ(config->rope.factor, 2.5);
  EXPECT_EQ(config->max_position_embeddings, 1280u);
}

std::vector<uint32_t> WindowsOf(const ModelConfig& config) {
  std::vector<uint32_t> windows;
  for (uint32_t i = 0; i < config.num_layers; ++i) windows.push_back(config.Layer(i).window);
  return windows;
}

TEST(ReadConfigTest, MistralSeesAWindowInEveryLayer) {
  constexpr char kMistral[] = R"({"architectures": ["MistralForCausalLM"], )";
  const auto read = [&](const std::string& rest) {
    const auto config = ReadPatched(kMistral + rest);
    EXPECT_TRUE(config) << config.error().message();
    return config ? config->Window() : UINT32_MAX;
  };
  EXPECT_EQ(read(R"("sliding_window": 64})"), 64u);
  EXPECT_EQ(read(R"("sliding_window": 512})"), 0u);  // covers all positions
  EXPECT_EQ(read(R"("max_position_embeddings": 32768})"), 4096u);
  // Null is not the same as missing.
  const TempDir dir;
  auto json = nlohmann::json::parse(kSmallConfig);
  json["architectures"] = {"MistralForCausalLM"};
  json["max_position_embeddings"] = 32768;
  json["sliding_window"] = nullptr;
  WriteFile(dir / "config.json", json.dump());
  EXPECT_EQ(ReadModelConfig(dir.path())->Window(), 0u);
}

TEST(ReadConfigTest, QwenSeesAWindowFromALayerOn) {
  const auto read = [](const std::string& rest) {
    return *ReadPatched(R"({"architectures": ["Qwen2ForCausalLM"], "num_hidden_layers": 3, )" +
                        rest);
  };
  const ModelConfig plain = read(R"("sliding_window": 64, "max_window_layers": 1})");
  EXPECT_THAT(WindowsOf(plain), ElementsAre(0, 0, 0));
  EXPECT_TRUE(plain.qkv_bias);
  EXPECT_FALSE(plain.qk_norm);
  const ModelConfig mixed =
      read(R"("use_sliding_window": true, "sliding_window": 64, "max_window_layers": 1})");
  EXPECT_THAT(WindowsOf(mixed), ElementsAre(0, 64, 64));
  EXPECT_EQ(mixed.Window(), 0u);  // layer 0 sees everything: nothing can be released
  EXPECT_EQ(
      read(R"("use_sliding_window": true, "sliding_window": 64, "max_window_layers": 0})").Window(),
      64u);
  EXPECT_THAT(WindowsOf(read(R"("use_sliding_window": true, "sliding_window": 64,
      "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]})")),
              ElementsAre(64, 0, 64));
}

TEST(ReadConfigTest, Qwen3NormalizesHeadsOfItsOwnSize) {
  const auto config = ReadPatched(R"({"architectures": ["Qwen3ForCausalLM"]})");
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_TRUE(config->qk_norm);
  EXPECT_FALSE(config->qkv_bias);
  EXPECT_EQ(config->head_dim, 128u);
}

std::vector<bool> ExpertLayersOf(const ModelConfig& config) {
  std::vector<bool> layers;
  for (uint32_t i = 0; i < config.num_layers; ++i) layers.push_back(config.Layer(i).has_experts);
  return layers;
}

TEST(ReadConfigTest, ReadsExperts) {
  const auto mixtral = ReadPatched(
      R"({"architectures": ["MixtralForCausalLM"], "num_local_experts": 4,
          "num_experts_per_tok": 3})");
  ASSERT_TRUE(mixtral) << mixtral.error().message();
  EXPECT_EQ(mixtral->experts.num_experts, 4u);
  EXPECT_EQ(mixtral->experts.num_per_token, 3u);
  EXPECT_EQ(mixtral->experts.intermediate_size, 96u);
  EXPECT_TRUE(mixtral->experts.normalize);
  EXPECT_EQ(mixtral->rope.theta, 1e6);
  EXPECT_THAT(ExpertLayersOf(*mixtral), ElementsAre(true, true));

  const auto qwen = ReadPatched(
      R"({"architectures": ["Qwen3MoeForCausalLM"], "num_hidden_layers": 6, "num_experts": 8,
          "num_experts_per_tok": 2, "moe_intermediate_size": 24, "decoder_sparse_step": 2,
          "mlp_only_layers": [3], "norm_topk_prob": true})");
  ASSERT_TRUE(qwen) << qwen.error().message();
  EXPECT_EQ(qwen->experts.intermediate_size, 24u);
  EXPECT_TRUE(qwen->experts.normalize);
  EXPECT_TRUE(qwen->qk_norm);
  EXPECT_THAT(ExpertLayersOf(*qwen), ElementsAre(false, true, false, false, false, true));
}

TEST(ReadConfigTest, ReadsGenerationDefaults) {
  const TempDir dir;
  WriteFile(dir / "config.json", kSmallConfig);
  EXPECT_FALSE(ReadModelConfig(dir.path())->generation.temperature);
  WriteFile(dir / "generation_config.json",
            R"({"do_sample": true, "temperature": 0.7, "top_k": 20, "top_p": 0.8,
                "repetition_penalty": 1.05, "max_new_tokens": 2048})");
  const auto config = ReadModelConfig(dir.path());
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_FLOAT_EQ(*config->generation.temperature, 0.7f);
  EXPECT_FLOAT_EQ(*config->generation.top_p, 0.8f);
  EXPECT_FLOAT_EQ(*config->generation.repetition_penalty, 1.05f);
  EXPECT_EQ(config->generation.top_k, 20);
  EXPECT_EQ(config->generation.max_new_tokens, 2048u);
  EXPECT_FALSE(config->generation.min_p);
  WriteFile(dir / "generation_config.json", R"({"top_p": 1.5})");
  EXPECT_THAT(ReadModelConfig(dir.path()).error().message(), HasSubstr("top_p is 1.5"));
}

// vllm, and a directory: whose tokens and sampling count.
TEST(ReadConfigTest, FollowsWhatWasAskedOfGenerationConfig) {
  const TempDir dir;
  const TempDir other;
  WriteFile(dir / "config.json", kSmallConfig);
  WriteFile(dir / "generation_config.json", R"({"temperature": 0.7, "eos_token_id": [5, 6]})");
  WriteFile(other / "generation_config.json", R"({"top_p": 0.5, "eos_token_id": 9})");
  const auto read = [&](const std::string& where, const std::string& overrides = "") {
    ModelOptions asked;
    asked.generation_config = where;
    asked.override_generation_config = overrides;
    return ReadModelConfig(dir.path(), asked);
  };
  const auto ends = [](const ModelConfig& config, uint32_t id) {
    const auto& ids = config.eos_token_ids;
    return std::find(ids.begin(), ids.end(), TokenId{id}) != ids.end();
  };
  EXPECT_FLOAT_EQ(*read("auto")->generation.temperature, 0.7f);
  const auto vllm = read("vllm");
  EXPECT_FALSE(vllm->generation.temperature);
  EXPECT_TRUE(ends(*vllm, 6));
  const auto elsewhere = read(other.path().string());
  EXPECT_FALSE(elsewhere->generation.temperature);
  EXPECT_FLOAT_EQ(*elsewhere->generation.top_p, 0.5f);
  EXPECT_TRUE(ends(*elsewhere, 9));
  EXPECT_FALSE(ends(*elsewhere, 6));
  const auto overridden = read("auto", R"({"temperature": 0.2, "top_k": 7})");
  EXPECT_FLOAT_EQ(*overridden->generation.temperature, 0.2f);
  EXPECT_EQ(overridden->generation.top_k, 7);

  const auto message = [&](const std::string& where, const std::string& overrides, Code code) {
    const auto config = read(where, overrides);
    EXPECT_FALSE(config);
    EXPECT_EQ(config.error().code(), code);
    return config.error().message();
  };
  EXPECT_THAT(message("/nowhere", "", Code::kNotFound),
              HasSubstr("--generation-config: there is no '/nowhere/generation_config.json'"));
  const Code flag = Code::kInvalidArgument;
  EXPECT_THAT(message("auto", R"({"top_q": 1})", flag), HasSubstr("unknown field 'top_q'"));
  EXPECT_THAT(message("auto", R"({"top_p": 3})", flag), HasSubstr("top_p is 3"));
  EXPECT_THAT(message("auto", "0.5", flag), HasSubstr("--override-generation-config"));
}

struct BadField {
  const char* patch;
  const char* message;  // must be part of what is said
};

class BadConfigTest : public ::testing::TestWithParam<BadField> {};

TEST_P(BadConfigTest, IsRefusedByNameAndValue) {
  const auto config = ReadPatched(GetParam().patch);
  ASSERT_FALSE(config) << GetParam().patch;
  EXPECT_EQ(config.error().code(), Code::kDataError);
  EXPECT_THAT(config.error().message(), HasSubstr("config.json"));
  EXPECT_THAT(config.error().message(), HasSubstr(GetParam().message));
  EXPECT_THAT(config.error().message(), Not(HasSubstr("\n")));
}

INSTANTIATE_TEST_SUITE_P(
    Fields, BadConfigTest,
    ::testing::Values(
        BadField{R"({"architectures": null})", "architectures is missing; supported: Llama"},
        BadField{R"({"architectures": []})", "architectures is []; supported"},
        BadField{R"({"architectures": ["GPT2LMHeadModel"]})", "architectures is [\"GPT2LMHead"},
        BadField{R"({"architectures": "LlamaForCausalLM"})", "architectures is \"Llama"},
        BadField{R"({"vocab_size": null})", "vocab_size is missing; an integer from 1"},
        BadField{R"({"vocab_size": 16777217})", "vocab_size is 16777217; an integer from 1 to"},
        BadField{R"({"vocab_size": "128"})", "vocab_size is \"128\""},
        BadField{R"({"hidden_size": 0})", "hidden_size is 0"},
        BadField{R"({"hidden_size": -64})", "hidden_size is -64"},
        BadField{R"({"hidden_size": 64.5})", "hidden_size is 64.5"},
        BadField{R"({"hidden_size": 1e300})", "hidden_size is 1e+300"},
        BadField{R"({"hidden_size": 18446744073709551615})", "hidden_size is 18446744073709551615"},
        BadField{R"({"intermediate_size": [96]})", "intermediate_size is [96]"},
        BadField{R"({"num_hidden_layers": 1000000000})", "num_hidden_layers is 1000000000"},
        BadField{R"({"num_hidden_layers": 0})", "num_hidden_layers is 0"},
        BadField{R"({"num_attention_heads": 0})", "num_attention_heads is 0"},
        BadField{R"({"num_attention_heads": true})", "num_attention_heads is true"},
        BadField{R"({"num_key_value_heads": 3})", "num_key_value_heads is 3; a divisor"},
        BadField{R"({"num_key_value_heads": 8})", "num_key_value_heads is 8"},
        BadField{R"({"head_dim": 7})", "head_dim is 7; an even number"},
        BadField{R"({"head_dim": 1024})", "head_dim is 1024"},
        BadField{R"({"hidden_size": 66})", "head_dim is missing; it is needed"},
        BadField{R"({"hidden_size": 4096, "num_attention_heads": 2, "num_key_value_heads": 1})",
                 "hidden_size / num_attention_heads is 2048"},
        BadField{R"({"max_position_embeddings": 0})", "max_position_embeddings is 0"},
        BadField{R"({"rms_norm_eps": 0})", "rms_norm_eps is 0"},
        BadField{R"({"rms_norm_eps": "1e-5"})", "rms_norm_eps is \"1e-5\""},
        BadField{R"({"tie_word_embeddings": 1})", "tie_word_embeddings is 1; true or false"},
        BadField{R"({"attention_bias": true})", "attention_bias is true; only false"},
        BadField{R"({"mlp_bias": true})", "mlp_bias is true; only false"},
        BadField{R"({"hidden_act": "gelu"})", "hidden_act is \"gelu\"; supported: silu"},
        BadField{R"({"hidden_act": 3})", "hidden_act is 3; a string"},
        BadField{R"({"sliding_window": 64})", "sliding_window is 64; only null"},
        BadField{R"({"partial_rotary_factor": 0.5})", "partial_rotary_factor is 0.5"},
        BadField{R"({"quantization_config": {"quant_method": "awq", "bits": 4}})",
                 "quantization_config.quant_method is \"awq\"; supported"},
        BadField{R"({"torch_dtype": "float8_e4m3fn"})", "torch_dtype is \"float8_e4m3fn\""},
        BadField{R"({"torch_dtype": null, "dtype": "int8"})", "dtype is \"int8\"; supported"},
        BadField{R"({"rope_theta": 0})", "rope_theta is 0"},
        BadField{R"({"rope_scaling": "llama3"})", "rope_scaling is \"llama3\""},
        BadField{R"({"rope_scaling": {"type": "dynamic", "factor": 2}})",
                 "rope_scaling: type is \"dynamic\"; supported: default, linear, llama3, yarn"},
        BadField{R"({"rope_parameters": {"rope_type": "longrope", "factor": 2}})",
                 "rope_parameters: rope_type is \"longrope\""},
        BadField{R"({"rope_scaling": {"type": "linear"}})", "factor is missing"},
        BadField{R"({"rope_scaling": {"type": "yarn", "factor": 2, "beta_fast": 0}})",
                 "beta_fast is 0"},
        BadField{R"({"rope_scaling": {"type": "yarn", "factor": 2, "long_factor": [1]}})",
                 "long_factor is [1]; this field is not supported"},
        BadField{R"({"rope_parameters": {"partial_rotary_factor": 0.5}})",
                 "partial_rotary_factor is 0.5"},
        BadField{R"({"attn_logit_softcapping": 50.0})", "attn_logit_softcapping is 50"},
        BadField{R"({"residual_multiplier": 0.22})", "residual_multiplier is 0.22; only 1.0"},
        BadField{R"({"n_shared_experts": 2})", "n_shared_experts is 2; only 0"},
        BadField{R"({"architectures": ["MistralForCausalLM"], "sliding_window": 0})",
                 "sliding_window is 0"},
        BadField{R"({"architectures": ["Qwen2ForCausalLM"], "use_sliding_window": 1})",
                 "use_sliding_window is 1; true or false"},
        BadField{R"({"architectures": ["Qwen3ForCausalLM"], "layer_types": ["full_attention"]})",
                 "layer_types is [\"full_attention\"]; a list of num_hidden_layers (2)"},
        BadField{R"({"architectures": ["Qwen3ForCausalLM"],
                     "layer_types": ["full_attention", "chunked_attention"]})",
                 "supported: full_attention, sliding_attention"},
        BadField{R"({"architectures": ["Qwen3ForCausalLM"], "attention_bias": true})",
                 "attention_bias is true; only false"},
        BadField{R"({"architectures": ["MixtralForCausalLM"], "num_experts_per_tok": 9})",
                 "num_experts_per_tok is 9; an integer from 1 to 8"},
        BadField{R"({"architectures": ["Qwen3MoeForCausalLM"], "num_experts": 0})",
                 "num_experts is 0"},
        BadField{R"({"architectures": ["Qwen3MoeForCausalLM"], "mlp_only_layers": [2]})",
                 "mlp_only_layers is [2]; a list of integers below 2"},
        BadField{R"({"rope_scaling": {"rope_type": "llama3", "factor": 8}})",
                 "rope_scaling: low_freq_factor is missing"},
        BadField{R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4,
                     "high_freq_factor": 4, "original_max_position_embeddings": 8192}})",
                 "high_freq_factor is 4"},
        BadField{R"({"bos_token_id": 128})", "bos_token_id is 128; token ids below vocab_size"},
        BadField{R"({"eos_token_id": [2, 4000000000]})", "eos_token_id is [2,4000000000]"},
        BadField{R"({"eos_token_id": "</s>"})", "eos_token_id is \"</s>\""},
        BadField{R"({"eos_token_id": [[2]]})", "eos_token_id is [[2]]"}));

struct BadText {
  const char* name;
  std::string text;
  const char* message;
};

class BadConfigTextTest : public ::testing::TestWithParam<BadText> {};

TEST_P(BadConfigTextTest, IsRefused) {
  const TempDir dir;
  WriteFile(dir / "config.json", GetParam().text);
  const auto config = ReadModelConfig(dir.path());
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().code(), Code::kDataError);
  EXPECT_THAT(config.error().message(), HasSubstr(GetParam().message));
}

std::string Repeat(const std::string& text, size_t times) {
  std::string out;
  for (size_t i = 0; i < times; ++i) out += text;
  return out;
}

INSTANTIATE_TEST_SUITE_P(
    Texts, BadConfigTextTest,
    ::testing::Values(BadText{"Empty", "", "not valid JSON at byte"},
                      BadText{"Cut", "{\"vocab_size\": ", "not valid JSON at byte"},
                      BadText{"Array", "[]", "not a JSON object"},
                      BadText{"Number", "7", "not a JSON object"},
                      BadText{"Trailing", "{} {}", "not valid JSON at byte"},
                      BadText{"Twice", R"({"a": 1, "a": 2})", "'a' occurs twice"},
                      BadText{"NestedTwice", R"({"b": [{"a": 1, "a": 2}]})", "'a' occurs twice"},
                      BadText{"Deep", R"({"a": )" + Repeat("[", 100000), "nested deeper than 32"},
                      BadText{"DeepObjects", Repeat(R"({"a": )", 100000), "nested deeper than 32"},
                      BadText{"HugeNumber", R"({"a": 1e999})", "a number out of range"},
                      BadText{"NotUtf8", "{\"a\": \"\xff\xfe\"}", "not valid JSON at byte"},
                      BadText{"NullByte", std::string("{\"a\": 1}\0", 9), "not valid JSON at byte"},
                      BadText{"Large", std::string((8u << 20) + 1, ' '),
                              "at most 8388608 are read"},
                      BadText{"ManyValues", "{\"a\": [" + Repeat("1,", 4'000'000) + "1]}",
                              "more than 4000000 values"}),
    [](const auto& test) { return test.param.name; });

TEST(ReadConfigTest, SaysWhichFileIsMissingOrWrong) {
  const TempDir dir;
  const auto missing = ReadModelConfig(dir.path());
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code(), Code::kNotFound);
  EXPECT_THAT(missing.error().message(), HasSubstr("config.json: No such file"));

  std::filesystem::create_directory(dir / "config.json");
  const auto directory = ReadModelConfig(dir.path());
  ASSERT_FALSE(directory);
  EXPECT_THAT(directory.error().message(), HasSubstr("not a regular file"));
  std::filesystem::remove(dir / "config.json");

  WriteFile(dir / "config.json", kSmallConfig);
  WriteFile(dir / "generation_config.json", R"({"eos_token_id": 128})");
  const auto generation = ReadModelConfig(dir.path());
  ASSERT_FALSE(generation);
  EXPECT_THAT(generation.error().message(),
              HasSubstr("generation_config.json: eos_token_id is 128"));
}

TEST(ReadConfigTest, SurvivesAnyDamage) {
  const std::string good = ReadFile(DefaultModelDir() / "config.json");
  const TempDir dir;
  uint64_t state = 1;
  for (int round = 0; round < 300; ++round) {
    std::string text = good;
    for (int edit = 0; edit < 3; ++edit) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      text[(state >> 33) % text.size()] = static_cast<char>(state >> 24);
    }
    WriteFile(dir / "config.json", text);
    const auto config = ReadModelConfig(dir.path());  // must return, whatever it says
    if (!config) {
      ASSERT_FALSE(config.error().message().empty());
    }
  }
}

}  // namespace
}  // namespace kvs
