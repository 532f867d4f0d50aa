// What a checkpoint says of its KV cache.
#include "model/kv_scheme.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "unit/model/model_fixture.h"

namespace kvs {
namespace {

using testing::HasSubstr;

std::optional<KvQuantScheme> SchemeOf(const std::string& kv_cache_scheme,
                                      const std::string& hf_quant_config = "") {
  const TempDir dir;
  if (!hf_quant_config.empty()) WriteFile(dir / "hf_quant_config.json", hf_quant_config);
  const Json config =
      Json::parse(R"({"quantization_config": {"kv_cache_scheme": )" + kv_cache_scheme + "}}");
  const auto scheme = ReadKvScheme(config, dir.path());
  EXPECT_TRUE(scheme) << scheme.error().message();
  return scheme ? *scheme : std::nullopt;
}

TEST(KvScheme, FollowsCompressedTensors) {
  const auto tensor = SchemeOf(
      R"({"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": false,
          "symmetric": true, "observer": "minmax", "group_size": null})");
  ASSERT_TRUE(tensor);
  EXPECT_EQ(tensor->unsupported, "");
  EXPECT_FALSE(tensor->per_head);
  const auto head = SchemeOf(R"({"num_bits": 8, "type": "float", "strategy": "attn_head"})");
  EXPECT_TRUE(head->per_head);
  EXPECT_FALSE(SchemeOf("null"));
}

TEST(KvScheme, FollowsModelOptWithoutOptionalFields) {
  EXPECT_EQ(SchemeOf(R"({"dynamic": false, "num_bits": 8, "type": "float"})")->unsupported, "");
  EXPECT_EQ(SchemeOf(R"("FP8")")->unsupported, "");
  const auto file = SchemeOf("null", R"({"producer": {"name": "modelopt"},
      "quantization": {"quant_algo": null, "kv_cache_quant_algo": "FP8"}})");
  ASSERT_TRUE(file);
  EXPECT_EQ(file->unsupported, "");
  EXPECT_THAT(file->where, HasSubstr("hf_quant_config.json: quantization.kv_cache_quant_algo"));
  EXPECT_FALSE(SchemeOf("null", R"({"quantization": {"kv_cache_quant_algo": null}})"));
}

TEST(KvScheme, SaysWhatItCannotFollow) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"num_bits": 4, "type": "float"})", ".num_bits is 4; supported: 8"},
      {R"({"num_bits": 8, "type": "int"})", ".type is \"int\"; supported: \"float\""},
      {R"({"num_bits": 8, "type": "float", "dynamic": true})", ".dynamic is true"},
      {R"({"num_bits": 8, "type": "float", "symmetric": false})", ".symmetric is false"},
      {R"({"num_bits": 8, "type": "float", "strategy": "channel"})", ".strategy is \"channel\""},
      {R"("NVFP4")", "is 'NVFP4'; supported: FP8"},
  };
  for (const auto& [text, problem] : cases) {
    EXPECT_THAT(SchemeOf(text)->unsupported, HasSubstr(problem)) << text;
  }
  const auto wrong = ReadKvScheme(Json::parse(R"({"quantization_config": {"kv_cache_scheme": 8}})"),
                                  "/nonexistent");
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().message(), HasSubstr("kv_cache_scheme is 8; expected null, an object"));
}

TEST(KvScheme, TellsTheKvCacheAloneFromMore) {
  const auto more = [](const char* text) { return QuantizesMoreThanKv(Json::parse(text)); };
  EXPECT_FALSE(more(R"({"quant_method": "compressed-tensors", "config_groups": {},
                        "kv_cache_scheme": {}})"));
  EXPECT_FALSE(more(R"({"quant_method": "modelopt", "kv_cache_scheme": {}})"));
  EXPECT_TRUE(more(R"({"quant_method": "compressed-tensors", "config_groups": {"group_0": {}},
                       "kv_cache_scheme": {}})"));
  EXPECT_TRUE(more(R"({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_scheme": {}})"));
  EXPECT_TRUE(more(R"({"quant_method": "gptq", "kv_cache_scheme": {}})"));
  EXPECT_TRUE(more(R"({"quant_method": "compressed-tensors", "config_groups": {}})"));
}

}  // namespace
}  // namespace kvs
