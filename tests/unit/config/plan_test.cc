#include "parse_support.h"

namespace kvs::test {
namespace {

// 128 layers, 8 KV heads of 128: the example whose figures circulate 128 times too small.
ModelConfig LargeModel() {
  ModelConfig config = SmallModel();
  config.num_layers = 128;
  config.num_kv_heads = 8;
  config.head_dim = 128;
  config.max_position_embeddings = 131072;
  return config;
}

TEST(Plan, BytesPerTokenAndTokensThatFit) {
  PlanCommand command;
  command.memory_bytes = uint64_t{128} << 30;
  command.context = 32768;
  const auto text = RunPlan(command, LargeModel());
  ASSERT_TRUE(text);
  // 128 layers * 8 heads * 128 * 2 (K, V) * 2 bytes = 524288; 32768 tokens are 16 GiB.
  EXPECT_NE(
      text->find("bfloat16            524288      16384       262144          8        16.0 GiB"),
      std::string::npos)
      << *text;
  EXPECT_NE(
      text->find("fp8_e4m3            262144      32768       524288         16         8.0 GiB"),
      std::string::npos)
      << *text;
}

// The shape of Llama 3.1 8B: 32 layers, 8 KV heads of 128.
TEST(Plan, Llama8BTakes131072BytesPerToken) {
  ModelConfig config = SmallModel();
  config.num_layers = 32;
  config.num_kv_heads = 8;
  config.head_dim = 128;
  PlanCommand command;
  command.json = true;
  const auto text = RunPlan(command, config);
  ASSERT_TRUE(text);
  const size_t bf16 = text->find("\"bfloat16\": {\n      \"bytes_per_token\": 131072");
  const size_t fp8 = text->find("\"fp8_e4m3\": {\n      \"bytes_per_token\": 65536");
  EXPECT_NE(bf16, std::string::npos) << *text;
  EXPECT_NE(fp8, std::string::npos) << *text;
}

TEST(Plan, JsonHasTheSameNumbers) {
  PlanCommand command;
  command.memory_bytes = uint64_t{16} << 30;
  command.json = true;
  command.context = 1000;
  const auto text = RunPlan(command, LargeModel());
  ASSERT_TRUE(text);
  EXPECT_NE(text->find("\"bytes_per_token\": 524288"), std::string::npos) << *text;
  EXPECT_NE(text->find("\"context\": 1000"), std::string::npos);
  // A sequence takes whole blocks: 63 of 16 tokens.
  EXPECT_NE(text->find("\"bytes_per_sequence\": 528482304"), std::string::npos);
}

TEST(Plan, DefaultsAreTheModelsLengthAndOneGiB) {
  const auto text = RunPlan({}, SmallModel());
  ASSERT_TRUE(text);
  EXPECT_NE(text->find("pool: 1073741824 bytes (1.0 GiB)"), std::string::npos);
  EXPECT_NE(text->find("context: 8192 tokens"), std::string::npos);
}

TEST(Plan, AContextBeyondTheModelIsRefused) {
  PlanCommand command;
  command.context = 8193;
  const auto text = RunPlan(command, SmallModel());
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().message(), "--context: got 8193, but the model has 8192 positions");
}

}  // namespace
}  // namespace kvs::test
