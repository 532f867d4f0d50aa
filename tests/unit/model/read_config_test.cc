#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
        BadField{R"({"quantization_config": {"quant_method": "fp8"}})",
                 "quantization_config is {\"quant_method\":\"fp8\"}"},
        BadField{R"({"torch_dtype": "float8_e4m3fn"})", "torch_dtype is \"float8_e4m3fn\""},
        BadField{R"({"torch_dtype": null, "dtype": "int8"})", "dtype is \"int8\"; supported"},
        BadField{R"({"rope_theta": 0})", "rope_theta is 0"},
        BadField{R"({"rope_scaling": "llama3"})", "rope_scaling is \"llama3\""},
        BadField{R"({"rope_scaling": {"type": "linear", "factor": 2}})",
                 "rope_scaling: type is \"linear\"; supported: default, llama3"},
        BadField{R"({"rope_parameters": {"rope_type": "yarn", "factor": 2}})",
                 "rope_parameters: rope_type is \"yarn\""},
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
