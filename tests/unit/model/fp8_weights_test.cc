// FP8 checkpoints as llm-compressor, ModelOpt and Qwen write them, against the same numbers in
// float32.
#include "model/fp8_weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "kvserve/float_bits.h"
#include "model/checkpoint.h"
#include "model/safetensors.h"
#include "unit/model/model_fixture.h"
#include "unit/model/model_runner.h"

namespace kvs {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Fp8WeightsTest, ReadsTheLayoutOfScalesFromTheirShape) {
  const auto layout = [](std::vector<uint64_t> shape, uint32_t rows, uint32_t cols) {
    const auto found = ScaleLayoutOf(shape, rows, cols);
    return found ? std::pair(found->rows, found->cols) : std::pair(0u, 0u);
  };
  EXPECT_EQ(layout({}, 6, 4), std::pair(6u, 4u));
  EXPECT_EQ(layout({1}, 6, 4), std::pair(6u, 4u));
  EXPECT_EQ(layout({6, 1}, 6, 4), std::pair(1u, 4u));
  EXPECT_EQ(layout({6}, 6, 4), std::pair(1u, 4u));
  EXPECT_EQ(layout({2, 3}, 200, 300), std::pair(128u, 128u));
  EXPECT_EQ(layout({1, 2}, 2, 256), std::pair(128u, 128u));
  EXPECT_EQ(layout({4}, 6, 4), std::pair(0u, 0u));
  EXPECT_EQ(layout({6, 4}, 6, 4), std::pair(0u, 0u));
  EXPECT_EQ(layout({3, 2}, 200, 300), std::pair(0u, 0u));
}

TEST(Fp8WeightsTest, Dequantizes) {
  // Codes of 1, 2, -1 and 448.
  const std::vector<uint8_t> codes = {0x38, 0x40, 0xb8, 0x7e};
  const auto by = [&](std::vector<float> scales, Fp8ScaleLayout layout) {
    std::vector<float> out(4);
    DequantizeFp8(codes, 2, 2, scales, layout, out.data());
    return out;
  };
  EXPECT_THAT(by({0.5f}, {2, 2}), ElementsAre(0.5f, 1.0f, -0.5f, 224.0f));
  EXPECT_THAT(by({0.5f, 2.0f}, {1, 2}), ElementsAre(0.5f, 1.0f, -2.0f, 896.0f));
  EXPECT_THAT(by({0.5f}, {128, 128}), ElementsAre(0.5f, 1.0f, -0.5f, 224.0f));

  const std::vector<uint8_t> ones(130 * 260, 0x38);
  const std::vector<float> scales = {1, 2, 3, 4, 5, 6};
  std::vector<float> out(ones.size());
  DequantizeFp8(ones, 130, 260, scales, {128, 128}, out.data());
  EXPECT_EQ(out[0], 1.0f);
  EXPECT_EQ(out[127], 1.0f);
  EXPECT_EQ(out[128], 2.0f);
  EXPECT_EQ(out[259], 3.0f);
  EXPECT_EQ(out[127 * 260 + 256], 3.0f);
  EXPECT_EQ(out[128 * 260], 4.0f);
  EXPECT_EQ(out[129 * 260 + 259], 6.0f);
}

// How an exporter stores the scales of a [rows, cols] matrix.
struct Export {
  const char* name;
  const char* quantization;  // of config.json
  bool per_channel;
  bool is_scalar_of_no_dim;  // shape [] as ModelOpt, else [1]
  bool has_input_scale;
};

std::string FloatBytes(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

// Quantizes a BF16 matrix: adds its codes and scales to `quantized`, and what they mean to `plain`.
void Quantize(const TestTensor& tensor, const Export& to, std::vector<TestTensor>& quantized,
              std::vector<TestTensor>& plain) {
  const size_t rows = tensor.shape[0], cols = tensor.shape[1];
  std::vector<float> values(rows * cols), meant(rows * cols);
  const auto* stored = reinterpret_cast<const uint16_t*>(tensor.bytes.data());
  for (size_t i = 0; i < values.size(); ++i) values[i] = Bf16ToFloat(stored[i]);
  std::vector<float> scales;
  std::string codes(values.size(), 0);
  const size_t rows_per_scale = to.per_channel ? 1 : rows;
  for (size_t row = 0; row < rows; row += rows_per_scale) {
    float largest = 0;
    for (size_t i = row * cols; i < (row + rows_per_scale) * cols; ++i) {
      largest = std::max(largest, std::abs(values[i]));
    }
    scales.push_back(largest / kF8E4M3Max);
    for (size_t i = row * cols; i < (row + rows_per_scale) * cols; ++i) {
      const uint8_t code = FloatToF8E4M3(values[i] / scales.back());
      codes[i] = static_cast<char>(code);
      meant[i] = F8E4M3ToFloat(code) * scales.back();
    }
  }
  const std::string base = tensor.name.substr(0, tensor.name.rfind(".weight"));
  std::vector<uint64_t> shape = {1};
  if (to.per_channel) shape = {rows, 1};
  if (to.is_scalar_of_no_dim) shape = {};
  quantized.push_back({tensor.name, "F8_E4M3", tensor.shape, codes});
  quantized.push_back({base + ".weight_scale", "F32", shape, FloatBytes(scales)});
  if (to.has_input_scale) {
    quantized.push_back({base + ".input_scale", "F32",
                         shape.empty() ? shape : std::vector<uint64_t>{1}, FloatBytes({0.02f})});
  }
  plain.push_back({tensor.name, "F32", tensor.shape, FloatBytes(meant)});
}

std::vector<TestTensor> ReadTensors(const std::filesystem::path& path) {
  const auto file = SafetensorsFile::Open(path);
  EXPECT_TRUE(file) << file.error().message();
  std::vector<TestTensor> tensors;
  for (const auto& [name, tensor] : file->tensors()) {
    tensors.push_back({name, tensor.dtype_name, tensor.shape,
                       std::string(reinterpret_cast<const char*>(file->Data(tensor)),
                                   tensor.end - tensor.begin)});
  }
  return tensors;
}

Logits RunFrom(const std::filesystem::path& dir) {
  ModelRunner runner(ModelRunner::Options(dir, DType::kF32, KvCacheDType::kF32));
  if (!runner.ok()) return {};
  TestSequence sequence = runner.NewSequence({{3}, {90}, {17}, {4}, {4}, {31}});
  return runner.RunAll(sequence, 512);
}

// What the checkpoint hands out as FP8 means what `plain` holds.
void ExpectCodesOf(const std::filesystem::path& dir, const std::vector<TestTensor>& plain,
                   float input_scale) {
  const auto checkpoint = Checkpoint::Open(dir);
  ASSERT_TRUE(checkpoint) << checkpoint.error().message();
  for (const TestTensor& tensor : plain) {
    if (tensor.shape.size() != 2) continue;
    const auto rows = static_cast<uint32_t>(tensor.shape[0]);
    const auto cols = static_cast<uint32_t>(tensor.shape[1]);
    const std::string why = (*checkpoint)->WhyNotFp8(tensor.name, rows, cols);
    EXPECT_EQ(why.empty(), tensor.name.ends_with("_proj.weight")) << tensor.name << why;
    if (!why.empty()) continue;
    const auto matrix = (*checkpoint)->Fp8Matrix(tensor.name, rows, cols);
    ASSERT_TRUE(matrix) << matrix.error().message();
    EXPECT_EQ(matrix->dtype, DType::kF8E4M3);
    EXPECT_EQ(matrix->input_scale, input_scale);
    std::vector<float> means(size_t{rows} * cols);
    for (size_t i = 0; i < means.size(); ++i) {
      means[i] = F8E4M3ToFloat(static_cast<const uint8_t*>(matrix->data)[i]) *
                 matrix->row_scales[i / cols];
    }
    EXPECT_EQ(FloatBytes(means), tensor.bytes) << tensor.name;
  }
  EXPECT_EQ((*checkpoint)->num_dequantized(), 0u);
}

class Fp8CheckpointTest : public ::testing::TestWithParam<Export> {};

TEST_P(Fp8CheckpointTest, GivesTheLogitsOfWhatItMeans) {
  const auto source =
      std::filesystem::path(KVS_SOURCE_DIR) / "tests" / "fixtures" / "families" / "llama2";
  std::vector<TestTensor> quantized, plain;
  for (const TestTensor& tensor : ReadTensors(source / "model.safetensors")) {
    if (tensor.name.ends_with("_proj.weight")) {
      Quantize(tensor, GetParam(), quantized, plain);
    } else {
      quantized.push_back(tensor);  // the `ignore` list: lm_head stays as it is
      plain.push_back(tensor);
    }
  }
  const TempDir plain_dir, quantized_dir;
  auto config = nlohmann::json::parse(ReadFile(source / "config.json"));
  WriteFile(plain_dir / "config.json", config.dump());
  WriteFile(plain_dir / "model.safetensors", SafetensorsBytes(plain));
  config["quantization_config"] = nlohmann::json::parse(GetParam().quantization);
  WriteFile(quantized_dir / "config.json", config.dump());
  WriteFile(quantized_dir / "model.safetensors", SafetensorsBytes(quantized));
  const Logits want = RunFrom(plain_dir.path());
  ASSERT_EQ(want.size(), 6u);
  EXPECT_EQ(RunFrom(quantized_dir.path()), want);
  EXPECT_NE(RunFrom(source), want);  // something was quantized
  ExpectCodesOf(quantized_dir.path(), plain, GetParam().has_input_scale ? 0.02f : 0.0f);
}

constexpr char kCompressedTensor[] = R"({"quant_method": "compressed-tensors",
    "format": "float-quantized", "quantization_status": "compressed", "ignore": ["lm_head"],
    "kv_cache_scheme": null, "config_groups": {"group_0": {"targets": ["Linear"],
    "weights": {"num_bits": 8, "type": "float", "strategy": "tensor", "symmetric": true,
                "dynamic": false},
    "input_activations": {"num_bits": 8, "type": "float", "strategy": "tensor", "symmetric": true,
                          "dynamic": false}}}})";
constexpr char kCompressedChannel[] = R"({"quant_method": "compressed-tensors",
    "format": "float-quantized", "ignore": ["lm_head"], "config_groups": {"group_0": {
    "targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "channel"},
    "input_activations": {"num_bits": 8, "type": "float", "strategy": "token",
                          "dynamic": true}}}})";
constexpr char kModelOpt[] = R"({"quant_method": "modelopt", "quant_algo": "FP8",
    "ignore": ["lm_head"], "producer": {"name": "modelopt"}})";

INSTANTIATE_TEST_SUITE_P(
    Exporters, Fp8CheckpointTest,
    ::testing::Values(Export{"CompressedTensorsStatic", kCompressedTensor, false, false, true},
                      Export{"CompressedTensorsDynamic", kCompressedChannel, true, false, false},
                      Export{"ModelOpt", kModelOpt, false, true, true}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(Fp8WeightsTest, SquaresAndMissingScalesAreNoFp8Products) {
  const TempDir dir;
  WriteFile(dir / "model.safetensors",
            SafetensorsBytes({{"a.weight", "F8_E4M3", {200, 300}, std::string(200 * 300, '8')},
                              {"a.weight_scale_inv", "F32", {2, 3}, FloatBytes({1, 2, 3, 4, 5, 6})},
                              {"b.weight", "F8_E4M3", {2, 3}, "888888"},
                              {"c.weight", "BF16", {2, 3}, std::string(12, '8')}}));
  const auto checkpoint = Checkpoint::Open(dir.path());
  ASSERT_TRUE(checkpoint) << checkpoint.error().message();
  EXPECT_THAT((*checkpoint)->WhyNotFp8("a.weight", 200, 300), HasSubstr("128 x 128"));
  EXPECT_THAT((*checkpoint)->WhyNotFp8("b.weight", 2, 3), HasSubstr("missing"));
  EXPECT_THAT((*checkpoint)->WhyNotFp8("c.weight", 2, 3), HasSubstr("otherwise"));
  EXPECT_TRUE((*checkpoint)->Matrix("a.weight", 200, 300));
  EXPECT_EQ((*checkpoint)->num_dequantized(), 1u);
}

Result<std::optional<Fp8Linear>> Check(const std::string& quantization) {
  return ReadWeightQuantization(Json{{"quantization_config", Json::parse(quantization)}},
                                "/no/such/directory");
}

TEST(Fp8WeightsTest, RefusesOtherSchemesByName) {
  EXPECT_TRUE(Check(kCompressedTensor));
  EXPECT_TRUE(Check(R"({"quant_method": "fp8", "weight_block_size": [128, 128]})"));
  const std::pair<const char*, const char*> cases[] = {
      {R"({"quant_method": "gptq"})", "quantization_config.quant_method is \"gptq\"; supported: "},
      {R"({"bits": 4})", "quant_method is missing"},
      {R"({"quant_method": "compressed-tensors", "format": "pack-quantized"})",
       "quantization_config.format is \"pack-quantized\""},
      {R"({"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights":
           {"num_bits": 4}}}})",
       "config_groups.group_0.weights.num_bits is 4; supported: 8"},
      {R"({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights":
           {"num_bits": 8, "type": "int"}}}})",
       "config_groups.g.weights.type is \"int\"; supported: \"float\""},
      {R"({"quant_method": "modelopt", "quant_algo": "NVFP4"})",
       "quantization_config.quant_algo is \"NVFP4\"; supported: \"FP8\""},
      {R"({"quant_method": "fp8", "weight_block_size": [64, 64]})", "weight_block_size is [64,64]"},
  };
  for (const auto& [quantization, message] : cases) {
    const auto checked = Check(quantization);
    ASSERT_FALSE(checked) << quantization;
    EXPECT_EQ(checked.error().code(), Code::kDataError);
    EXPECT_THAT(checked.error().message(), HasSubstr(message));
  }
}

// Whether inputs are quantized by rows or as a whole, and in all of the layers.
TEST(Fp8WeightsTest, ReadsWhetherProductsAreOfFp8) {
  const auto read = [](const std::string& quantization) {
    const auto found = Check(quantization);
    EXPECT_TRUE(found) << quantization;
    return !*found ? "no" : (*found)->all_layers ? "all layers" : "some layers";
  };
  EXPECT_STREQ(read(kCompressedTensor), "all layers");
  EXPECT_STREQ(read(kCompressedChannel), "all layers");
  EXPECT_STREQ(read(kModelOpt), "all layers");
  EXPECT_STREQ(read(R"({"quant_method": "modelopt", "quant_algo": "FP8",
                        "ignore": ["lm_head", "model.layers.0.mlp.down_proj"]})"),
               "some layers");
  EXPECT_STREQ(read(R"({"quant_method": "fp8", "weight_block_size": [128, 128]})"), "no");
  EXPECT_STREQ(read(R"({"quant_method": "compressed-tensors", "config_groups": {"g": {
                        "weights": {"strategy": "channel"}, "input_activations": null}}})"),
               "no");
  EXPECT_STREQ(read(R"({"quant_method": "compressed-tensors", "config_groups": {"g": {
                        "weights": {"strategy": "block"}, "input_activations": {}}}})"),
               "no");
}

TEST(Fp8WeightsTest, ReadsModelOptsOwnFile) {
  const TempDir dir;
  WriteFile(dir / "hf_quant_config.json",
            R"({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8",
                "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}})");
  const auto read = ReadWeightQuantization(Json::object(), dir.path());
  ASSERT_TRUE(read && *read);
  EXPECT_TRUE((*read)->all_layers);
  WriteFile(dir / "hf_quant_config.json", R"({"quantization": {"quant_algo": "W4A16_AWQ"}})");
  const auto checked = ReadWeightQuantization(Json::object(), dir.path());
  ASSERT_FALSE(checked);
  EXPECT_THAT(checked.error().message(),
              HasSubstr("hf_quant_config.json: quantization.quant_algo is \"W4A16_AWQ\""));
}

}  // namespace
}  // namespace kvs
