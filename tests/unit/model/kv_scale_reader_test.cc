// Scales in every format they are found in, and what is said of those that are wrong.
#include "model/kv_scale_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "kvserve/float_bits.h"
#include "unit/model/model_fixture.h"

namespace kvs {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr KvLayout kCheckpointLayout = {.num_layers = 2,
                                        .num_kv_heads = 2,
                                        .head_dim = 32,
                                        .block_size = 16,
                                        .dtype = KvCacheDType::kF8E4M3};

std::string Floats(const std::vector<float>& values) {
  std::string bytes(values.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

std::string Bf16s(const std::vector<float>& values) {
  std::string bytes;
  for (const float value : values) {
    const uint16_t stored = FloatToBf16(value);
    bytes.append(reinterpret_cast<const char*>(&stored), 2);
  }
  return bytes;
}

TestTensor Scale(const std::string& name, const std::vector<float>& values,
                 std::vector<uint64_t> shape = {1}) {
  return {name, "F32", std::move(shape), Floats(values)};
}

std::string At(int layer, const std::string& rest) {
  return "model.layers." + std::to_string(layer) + ".self_attn." + rest;
}

Result<std::optional<KvScaleSet>> Read(const std::vector<TestTensor>& tensors,
                                       const std::vector<uint32_t>& skip = {}, bool fnuz = false) {
  const TempDir dir;
  WriteFile(dir / "model.safetensors", SafetensorsBytes(tensors));
  auto checkpoint = Checkpoint::Open(dir.path());
  EXPECT_TRUE(checkpoint) << checkpoint.error().message();
  auto scales = ReadKvScales(**checkpoint, kCheckpointLayout, skip, fnuz);
  if (scales) {
    EXPECT_TRUE((*checkpoint)->Finish([](std::string_view) { return false; }))
        << "a scale counts as used";
  }
  return scales;
}

std::string ErrorOf(const std::vector<TestTensor>& tensors) {
  const auto read = Read(tensors);
  if (read) return "no error";
  EXPECT_EQ(read.error().code(), Code::kDataError);
  return read.error().message();
}

TEST(KvScaleReader, ReadsCompressedTensorsPerTensor) {
  const auto read = Read({Scale(At(0, "k_scale"), {0.5f}),
                          Scale(At(0, "v_scale"), {0.25f}),
                          Scale(At(1, "k_scale"), {2.0f}, {}),
                          {At(1, "v_scale"), "BF16", {1}, Bf16s({4.0f})}});
  ASSERT_TRUE(read) << read.error().message();
  const KvScaleSet& set = **read;
  EXPECT_EQ(set.source, KvScaleSource::kCheckpoint);
  EXPECT_THAT(set.scales.k, ElementsAre(0.5f, 0.5f, 2.0f, 2.0f));
  EXPECT_THAT(set.scales.v, ElementsAre(0.25f, 0.25f, 4.0f, 4.0f));
  EXPECT_FALSE(set.IsPerHead(2));
  EXPECT_EQ(set.origins[0].k, At(0, "k_scale"));
  EXPECT_THAT(DescribeKvScales(set, 2)[1],
              AllOf(HasSubstr("layer 1 k_scale=2 v_scale=4"), HasSubstr(At(1, "v_scale"))));
}

TEST(KvScaleReader, ReadsCompressedTensorsPerHeadAndItsZeroPoints) {
  const auto read = Read({Scale(At(0, "k_scale"), {0.5f, 0.75f}, {2, 1, 1}),
                          Scale(At(0, "v_scale"), {1.0f, 2.0f}, {2, 1, 1}),
                          {At(0, "k_zero_point"), "I8", {2, 1, 1}, std::string(2, '\0')},
                          {At(0, "v_zero_point"), "BF16", {1}, Bf16s({0.0f})},
                          Scale(At(1, "k_scale"), {3.0f}),
                          Scale(At(1, "v_scale"), {4.0f}),
                          Scale(At(1, "q_scale"), {5.0f})});
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_THAT((*read)->scales.k, ElementsAre(0.5f, 0.75f, 3.0f, 3.0f));
  EXPECT_THAT((*read)->scales.v, ElementsAre(1.0f, 2.0f, 4.0f, 4.0f));
  EXPECT_TRUE((*read)->IsPerHead(2));
  EXPECT_THAT(DescribeKvScales(**read, 2)[0], HasSubstr("k_scale=0.5 0.75"));
}

TEST(KvScaleReader, ReadsTheNamesOfOtherTools) {
  const auto modelopt =
      Read({Scale(At(0, "k_proj.k_scale"), {1.5f}), Scale(At(0, "v_proj.v_scale"), {2.5f}),
            Scale(At(1, "qkv_proj.k_scale"), {3.5f}), Scale(At(1, "qkv_proj.v_scale"), {4.5f})});
  ASSERT_TRUE(modelopt) << modelopt.error().message();
  EXPECT_THAT((*modelopt)->scales.k, ElementsAre(1.5f, 1.5f, 3.5f, 3.5f));
  EXPECT_THAT((*modelopt)->scales.v, ElementsAre(2.5f, 2.5f, 4.5f, 4.5f));

  const auto older =
      Read({Scale(At(0, "kv_scale"), {1.5f}), Scale(At(1, "k_proj.output_scale"), {2.0f}),
            Scale(At(1, "v_proj.output_scale"), {3.0f})});
  ASSERT_TRUE(older) << older.error().message();
  EXPECT_THAT((*older)->scales.k, ElementsAre(1.5f, 1.5f, 2.0f, 2.0f));
  EXPECT_THAT((*older)->scales.v, ElementsAre(1.5f, 1.5f, 3.0f, 3.0f));
  EXPECT_THAT(DescribeKvScales(**older, 2)[0], HasSubstr("kv_scale, duplicated for K and V"));
}

TEST(KvScaleReader, TakesFnuzScalesToTheSameLargestValue) {
  const auto read = Read({Scale(At(0, "kv_scale"), {1.0f}), Scale(At(1, "kv_scale"), {2.0f})}, {},
                         /*fnuz=*/true);
  ASSERT_TRUE(read);
  // 240 * 1 was the largest key; as OCP E4M3 it is 448 * scale.
  EXPECT_FLOAT_EQ((*read)->scales.k[0] * kF8E4M3Max, 240.0f);
  EXPECT_FLOAT_EQ((*read)->scales.v[3] * kF8E4M3Max, 480.0f);
}

TEST(KvScaleReader, ACheckpointWithoutScalesHasNone) {
  const auto read = Read({});
  ASSERT_TRUE(read);
  EXPECT_FALSE(*read);
}

TEST(KvScaleReader, SkippedLayersNeedNone) {
  EXPECT_TRUE(Read({Scale(At(0, "kv_scale"), {1.0f})}, {1}));
}

TEST(KvScaleReader, WrongScalesAreErrorsThatNameTheLayer) {
  const auto layer0 = Scale(At(0, "kv_scale"), {1.0f});
  EXPECT_THAT(ErrorOf({layer0}), HasSubstr("layer 1: the checkpoint has scales for other layers"));
  EXPECT_THAT(ErrorOf({layer0, Scale(At(1, "k_scale"), {1.0f})}),
              HasSubstr("layer 1: there is '" + At(1, "k_scale") + "' but no scale for V"));
  EXPECT_THAT(ErrorOf({layer0, Scale(At(1, "v_scale"), {1.0f})}), HasSubstr("no scale for K"));
  for (const float wrong : {NAN, 0.0f, -0.5f, INFINITY, 1e-12f, 1e6f}) {
    EXPECT_THAT(ErrorOf({layer0, Scale(At(1, "kv_scale"), {wrong})}),
                AllOf(HasSubstr("layer 1: tensor '" + At(1, "kv_scale") + "' holds "),
                      HasSubstr("a scale is a number from 1e-09 to 10000")))
        << wrong;
  }
  EXPECT_THAT(ErrorOf({layer0, Scale(At(1, "kv_scale"), {1, 2, 3}, {3, 1, 1})}),
              HasSubstr("layer 1: tensor '" + At(1, "kv_scale") +
                        "' holds 3 values; expected 1, "
                        "or 2 for one per KV head"));
  EXPECT_THAT(ErrorOf({layer0, Scale(At(0, "k_scale"), {2.0f})}),
              AllOf(HasSubstr("layer 0: tensors '"), HasSubstr("give different scales")));
  EXPECT_THAT(
      ErrorOf({layer0, Scale(At(0, "k_zero_point"), {1.0f})}),
      HasSubstr("layer 0: tensor '" + At(0, "k_zero_point") + "' holds 1; zero points must"));
  EXPECT_THAT(ErrorOf({layer0, Scale(At(2, "kv_scale"), {1.0f})}),
              HasSubstr("is of a layer that is not there; the model has 2"));
  EXPECT_THAT(ErrorOf({layer0, {At(1, "kv_scale"), "BOOL", {1}, std::string(1, '\1')}}),
              HasSubstr("tensor '" + At(1, "kv_scale") + "' is stored as BOOL"));
}

TEST(KvScaleReader, OtherTensorsAreNotItsBusiness) {
  for (const char* name : {"model.layers.0.self_attn.q_proj.weight",
                           "model.layers.x.self_attn.k_scale", "model.layers.0.mlp.k_scale",
                           "model.norm.weight", "model.layers.0.self_attn.k_scale.extra"}) {
    EXPECT_FALSE(ParseKvTensorName(name)) << name;
  }
  EXPECT_EQ(ParseKvTensorName("model.layers.31.self_attn.k_scale")->layer, 31u);
}

// --- the legacy file ---

Result<KvScaleSet> ReadFileText(const std::string& text) {
  const TempDir dir;
  WriteFile(dir / "scales.json", text);
  return ReadKvScaleFile(dir / "scales.json", kCheckpointLayout);
}

std::string Legacy(const std::string& factors, const std::string& dtype = "float8_e4m3fn") {
  return R"({"model_type": "llama", "kv_cache": {"dtype": ")" + dtype + R"(", "scaling_factor": )" +
         factors + "}}";
}

TEST(KvScaleFile, GivesKAndVOneScalePerLayer) {
  const auto read = ReadFileText(Legacy(R"({"0": {"0": 0.5, "1": 2}})"));
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(read->source, KvScaleSource::kFile);
  EXPECT_THAT(read->scales.k, ElementsAre(0.5f, 0.5f, 2.0f, 2.0f));
  EXPECT_EQ(read->scales.k, read->scales.v);
  const auto fnuz = ReadFileText(Legacy(R"({"0": {"0": 1, "1": 2}})", "float8_e4m3fnuz"));
  ASSERT_TRUE(fnuz);
  EXPECT_FLOAT_EQ(fnuz->scales.k[0] * 448, 240);
}

TEST(KvScaleFile, WrongFilesAreErrorsThatNameTheLayer) {
  const std::pair<std::string, const char*> cases[] = {
      {Legacy(R"({"0": {"0": 0.5}})"), "layer 1: no scale"},
      {Legacy(R"({"0": {"0": 0.5, "1": 0}})"), "layer 1: the scale is 0"},
      {Legacy(R"({"0": {"0": -1, "1": 1}})"), "layer 0: the scale is -1"},
      {Legacy(R"({"0": {"0": "x", "1": 1}})"), "layer 0: the scale is \"x\""},
      {Legacy(R"({"0": {"0": 1, "1": 1, "2": 1}})"), "3 layers have a scale; the model has 2"},
      {Legacy(R"({"0": {}, "1": {}})"), "has 2 ranks"},
      {Legacy(R"({"0": {"0": 1, "1": 1}})", "int8"), "kv_cache.dtype is \"int8\""},
      {"{}", "kv_cache.scaling_factor is missing"},
      {R"({"kv_cache": 3})", "kv_cache.scaling_factor is missing"},
  };
  for (const auto& [text, message] : cases) {
    const auto read = ReadFileText(text);
    ASSERT_FALSE(read) << text;
    EXPECT_THAT(read.error().message(), HasSubstr(message));
    EXPECT_EQ(read.error().code(), Code::kDataError);
  }
  EXPECT_EQ(ReadKvScaleFile("/nonexistent/scales.json", kCheckpointLayout).error().code(),
            Code::kNotFound);
}

}  // namespace
}  // namespace kvs
