// Evaluation of the bundled model with few samples: what must hold whatever the figures are.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "quality/quality.h"
#include "unit/model/model_fixture.h"

namespace kvs {
namespace {

using testing::HasSubstr;
using Json = nlohmann::json;

EvalCommand CommandFor(uint32_t num_samples) {
  EvalCommand command;
  command.model = DefaultModelDir().string();
  command.text = (DefaultModelDir() / "data/eval_text.jsonl").string();
  command.num_samples = num_samples;
  command.json = true;
  return command;
}

Json Eval(const EvalCommand& command) {
  const auto backend = MakeCpuBackend({.num_threads = 2});
  const auto report = RunEval(command, **backend);
  EXPECT_TRUE(report) << report.error().message();
  return report ? Json::parse(*report) : Json();
}

TEST(Eval, TheModelsOwnTypeAgreesWithItselfExactly) {
  EvalCommand command = CommandFor(3);
  command.kv_cache_dtypes = {KvCacheDType::kBf16, KvCacheDType::kF8E4M3, KvCacheDType::kF8E5M2};
  const Json variants = Eval(command)["variants"];
  ASSERT_EQ(variants.size(), 4u);
  EXPECT_EQ(variants[1]["text"], variants[0]["text"]);
  EXPECT_EQ(variants[1]["text"]["kl_divergence"], 0.0);
  EXPECT_EQ(variants[1]["text"]["top1_agreement"], 1.0);
  EXPECT_EQ(variants[2]["name"], "fp8_e4m3 none");
  const double e4m3 = variants[2]["text"]["kl_divergence"];
  const double e5m2 = variants[3]["text"]["kl_divergence"];
  EXPECT_GT(e4m3, 0.0);
  EXPECT_GT(e5m2, e4m3) << "two mantissa bits lose more than three";
  EXPECT_EQ(variants[2]["bytes_per_token"], 2048);
  for (const Json& layer : variants[2]["layers"]) {
    EXPECT_GT(layer["k"]["relative_error"], 0.01);
    EXPECT_LT(layer["k"]["relative_error"], 0.05) << "half a step of three mantissa bits";
  }
}

TEST(Eval, LayersKeptInBf16HaveNoErrorAndCostTheirBytes) {
  EvalCommand command = CommandFor(2);
  command.skip_layers = {"0", "5"};
  command.scales = {"random"};
  const Json variant = Eval(command)["variants"][1];
  EXPECT_EQ(variant["bytes_per_token"], 2048 + 2 * 256);
  EXPECT_EQ(variant["layers"][0]["dtype"], "bfloat16");
  EXPECT_EQ(variant["layers"][5]["v"]["relative_error"], 0.0);
  EXPECT_GT(variant["layers"][1]["v"]["relative_error"], 0.0);
}

TEST(Eval, RandomTokensGiveScalesPerHeadToo) {
  EvalCommand command = CommandFor(2);
  command.scales = {"random", "random-head"};
  const Json variants = Eval(command)["variants"];
  EXPECT_EQ(variants[2]["name"], "fp8_e4m3 random-head");
  EXPECT_NE(variants[1]["layers"], variants[2]["layers"]);
  for (const Json& layer : variants[2]["layers"]) {
    EXPECT_LT(layer["k"]["relative_error"], 0.05);
    EXPECT_LT(layer["v"]["relative_error"], 0.05);
  }
}

TEST(Eval, ScalesThatAreTooSmallClipAndItShows) {
  const TempDir dir;
  std::string factors;
  for (int layer = 0; layer < 8; ++layer) {
    factors += (layer > 0 ? ", \"" : "\"") + std::to_string(layer) +
               "\": " + (layer == 3 ? "0.0005" : "0.05");
  }
  WriteFile(dir / "scales.json", R"({"kv_cache": {"dtype": "float8_e4m3fn", "scaling_factor":
                                     {"0": {)" +
                                     factors + "}}}}");
  EvalCommand command = CommandFor(2);
  command.scales = {(dir / "scales.json").string()};
  command.output_json = (dir / "report.json").string();
  command.plot = (dir / "plot.svg").string();
  command.json = false;
  const auto backend = MakeCpuBackend({.num_threads = 2});
  const auto text = RunEval(command, **backend);
  ASSERT_TRUE(text) << text.error().message();
  EXPECT_THAT(*text, HasSubstr("error of storing, share of values clipped"));
  const Json layers = Json::parse(ReadFile(dir / "report.json"))["variants"][1]["layers"];
  EXPECT_EQ(layers[2]["k"]["num_clipped"], 0);
  EXPECT_GT(layers[3]["k"]["num_clipped"], 0);
  EXPECT_GT(layers[3]["k"]["relative_error"], 0.5);
  const std::string plot = ReadFile(dir / "plot.svg");
  EXPECT_EQ(plot.rfind("<svg", 0), 0u);
  EXPECT_THAT(plot, HasSubstr("polyline"));
}

TEST(Eval, PasskeysAreCountedByLength) {
  EvalCommand command = CommandFor(2);
  command.text.clear();
  command.passkey = (DefaultModelDir() / "data/eval_lookup.jsonl").string();
  command.num_samples = 1;
  const Json variants = Eval(command)["variants"];
  for (const Json& variant : variants) {
    ASSERT_EQ(variant["passkey"].size(), 4u);
    EXPECT_EQ(variant["passkey"]["25"]["num_prompts"], 1);
    EXPECT_EQ(variant["passkey"]["25"]["accuracy"], 1.0);
    EXPECT_FALSE(variant.contains("text"));
  }
  // An answer that is not in the context is not what the model says.
  const TempDir dir;
  std::ifstream rows(command.passkey);
  std::string row;
  std::getline(rows, row);
  Json changed = Json::parse(row);
  changed["answer"] = "The value of " + changed["key"].get<std::string>() + " is 0000.";
  WriteFile(dir / "wrong.jsonl", changed.dump());
  command.passkey = (dir / "wrong.jsonl").string();
  EXPECT_EQ(Eval(command)["variants"][0]["passkey"]["25"]["accuracy"], 0.0);
}

TEST(Eval, SaysWhatItCannotUse) {
  const auto backend = MakeCpuBackend({.num_threads = 1});
  const auto error_of = [&](const EvalCommand& command) {
    const auto report = RunEval(command, **backend);
    return report ? "no error" : report.error().message();
  };
  EvalCommand command = CommandFor(1);
  command.scales = {"checkpoint"};
  EXPECT_THAT(error_of(command), HasSubstr("holds none; see kvserve calibrate"));
  command.scales = {"/nonexistent/scales"};
  EXPECT_THAT(error_of(command), HasSubstr("--scales: "));
  command.scales = {"none"};
  command.skip_layers = {"8"};
  EXPECT_THAT(error_of(command),
              HasSubstr("--kv-cache-dtype-skip-layers: expected a whole number from 0 to 7"));
  command.skip_layers.clear();
  command.passkey = command.text;
  EXPECT_THAT(error_of(command), HasSubstr("row 1: a prompt needs \"answer\""));
}

}  // namespace
}  // namespace kvs
