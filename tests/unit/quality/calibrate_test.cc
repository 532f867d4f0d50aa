// Calibration from a dataset to a directory that loads, and what interrupts it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/kv_cache.h"
#include "model/kv_calibration.h"
#include "quality/calibration_state.h"
#include "quality/quality.h"
#include "quality/samples.h"
#include "unit/model/model_fixture.h"
#include "unit/model/model_runner.h"

namespace kvs {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const fs::path kData = DefaultModelDir() / "data";

CalibrateCommand CommandFor(const fs::path& output_dir, uint32_t num_samples = 6) {
  CalibrateCommand command;
  command.model = DefaultModelDir().string();
  command.dataset = (kData / "calibration.jsonl").string();
  command.output_dir = output_dir.string();
  command.num_samples = num_samples;
  command.json = true;
  return command;
}

nlohmann::json Calibrate(const CalibrateCommand& command) {
  const auto backend = MakeCpuBackend({.num_threads = 2});
  const auto report = RunCalibrate(command, **backend);
  EXPECT_TRUE(report) << report.error().message();
  return report ? nlohmann::json::parse(*report) : nlohmann::json();
}

// The scales the directory is served with, K then V, all heads of all layers.
std::vector<float> ScalesServed(const fs::path& dir, KvScaleSource* source = nullptr) {
  const auto config = ReadModelConfig(dir);
  EXPECT_TRUE(config) << config.error().message();
  EXPECT_TRUE(config->kv_scheme);
  ModelRunner runner(ModelRunner::Options(dir, config->checkpoint_dtype, config->kv_scheme->dtype));
  const KvScaleSet& set = runner.model().kv_cache().scales();
  if (source != nullptr) *source = set.source;
  std::vector<float> scales = set.scales.k;
  scales.insert(scales.end(), set.scales.v.begin(), set.scales.v.end());
  return scales;
}

TEST(Calibrate, WhatItReportsIsWhatIsServed) {
  for (const bool per_head : {false, true}) {
    const TempDir dir;
    CalibrateCommand command = CommandFor(dir / "out");
    command.per_head = per_head;
    const nlohmann::json report = Calibrate(command);
    ASSERT_EQ(report["layers"].size(), 8u);
    KvScaleSource source = KvScaleSource::kDefault;
    const std::vector<float> served = ScalesServed(dir / "out", &source);
    EXPECT_EQ(source, KvScaleSource::kCheckpoint);
    ASSERT_EQ(served.size(), 2u * 8u * 2u);
    for (size_t layer = 0; layer < 8; ++layer) {
      for (const char* half : {"k", "v"}) {
        const nlohmann::json& reported = report["layers"][layer][half];
        const size_t first = (*half == 'v' ? 16 : 0) + layer * 2;
        const float head0 = reported["scales"][0];
        const float head1 = reported["scales"][per_head ? 1 : 0];
        EXPECT_EQ(served[first], head0);
        EXPECT_EQ(served[first + 1], head1);
        // minmax: the largest value is covered, by less than the rounding of bfloat16.
        const double largest = reported["largest"];
        EXPECT_GE(448.0 * std::max(head0, head1), largest);
        EXPECT_LE(448.0 * std::max(head0, head1), largest * 1.008);
      }
    }
  }
}

TEST(Calibrate, TheArtifactHoldsTheModelsFilesAndWeights) {
  const TempDir dir;
  Calibrate(CommandFor(dir / "out", 2));
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "generation_config.json",
                           "model-00001-of-00002.safetensors", "model-kv-scales.safetensors"}) {
    EXPECT_TRUE(fs::exists(dir / "out" / name)) << name;
  }
  EXPECT_EQ(ReadFile(dir / "out" / "model-00001-of-00002.safetensors"),
            ReadFile(DefaultModelDir() / "model-00001-of-00002.safetensors"));
  const auto config = nlohmann::json::parse(ReadFile(dir / "out" / "config.json"));
  const auto& scheme = config["quantization_config"]["kv_cache_scheme"];
  EXPECT_EQ(config["quantization_config"]["quant_method"], "compressed-tensors");
  EXPECT_EQ(scheme["num_bits"], 8);
  EXPECT_EQ(scheme["type"], "float");
  EXPECT_EQ(scheme["strategy"], "tensor");
  const auto index = nlohmann::json::parse(ReadFile(dir / "out" / "model.safetensors.index.json"));
  EXPECT_EQ(index["weight_map"]["model.layers.7.self_attn.v_scale"], "model-kv-scales.safetensors");
  EXPECT_FALSE(fs::exists(dir / "out.partial"));
  EXPECT_FALSE(fs::exists(dir / "out.progress"));
}

TEST(Calibrate, AnArtifactCanBeCalibratedAgain) {
  const TempDir dir;
  Calibrate(CommandFor(dir / "first", 2));
  CalibrateCommand again = CommandFor(dir / "second", 2);
  again.model = (dir / "first").string();
  again.per_head = true;
  Calibrate(again);
  EXPECT_EQ(ScalesServed(dir / "second").size(), 32u);
}

TEST(Calibrate, TellsWhatStatisticsCostWithoutChangingThem) {
  const TempDir dir;
  const nlohmann::json plain = Calibrate(CommandFor(dir / "plain"));
  EXPECT_FALSE(plain.contains("share_of_prefill_speed"));
  CalibrateCommand command = CommandFor(dir / "compared");
  command.compare_prefill = true;
  const nlohmann::json compared = Calibrate(command);
  EXPECT_EQ(compared["layers"], plain["layers"]);
  EXPECT_EQ(compared["num_tokens"], plain["num_tokens"]);
  const double share = compared["share_of_prefill_speed"];
  EXPECT_GT(share, 0.0);
  EXPECT_NEAR(share * compared["prefill_tokens_per_second"].get<double>(),
              compared["tokens_per_second"].get<double>(), 1.0);
}

TEST(Calibrate, ObserversThatClipGiveSmallerScales) {
  const TempDir dir;
  CalibrateCommand command = CommandFor(dir / "minmax");
  Calibrate(command);
  command.observer = KvScaleFit::kPercentile;
  command.percentile = 0.99;
  command.output_dir = (dir / "percentile").string();
  Calibrate(command);
  const auto wide = ScalesServed(dir / "minmax"), narrow = ScalesServed(dir / "percentile");
  for (size_t i = 0; i < wide.size(); ++i) EXPECT_LT(narrow[i], wide[i]);
}

TEST(Calibrate, RefusesWhatItCouldNotFinish) {
  const TempDir dir;
  const auto backend = MakeCpuBackend({.num_threads = 1});
  CalibrateCommand command = CommandFor(dir / "out");
  fs::create_directory(dir / "out");
  WriteFile(dir / "out" / "file", "x");
  const auto there = RunCalibrate(command, **backend);
  ASSERT_FALSE(there);
  EXPECT_THAT(there.error().message(), HasSubstr("is there already; remove it or name another"));
  command.output_dir = (dir / "other").string();
  command.dataset = "/nonexistent/data";
  EXPECT_EQ(RunCalibrate(command, **backend).error().code(), Code::kNotFound);
}

TEST(CalibrationState, IsReadBackOnlyForTheSameJob) {
  const TempDir dir;
  const KvLayout layout = {2, 2, 32, 16, KvCacheDType::kBf16};
  CalibrationState state{.job = "a job", .statistics = KvStatistics(layout)};
  state.num_samples_done = 3;
  state.num_tokens_done = 77;
  for (size_t i = 0; i < state.statistics.heads.size(); ++i) {
    KvHeadStatistics& head = state.statistics.heads[i];
    head.counts.resize(kKvStatsBins);
    head.counts[i * 100] = i + 1;
    head.largest = static_cast<float>(i);
  }
  ASSERT_TRUE(SaveCalibrationState(dir / "state", state));
  const CalibrationState fresh{.job = "a job", .statistics = KvStatistics(layout)};
  const auto read = LoadCalibrationState(dir / "state", fresh);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->num_samples_done, 3u);
  EXPECT_EQ(read->num_tokens_done, 77u);
  for (size_t i = 0; i < state.statistics.heads.size(); ++i) {
    EXPECT_EQ(read->statistics.heads[i].counts, state.statistics.heads[i].counts);
    EXPECT_EQ(read->statistics.heads[i].largest, state.statistics.heads[i].largest);
  }
  CalibrationState other = fresh;
  other.job = "other job";
  EXPECT_FALSE(LoadCalibrationState(dir / "state", other));
  EXPECT_FALSE(LoadCalibrationState(dir / "none", fresh));
  const std::string bytes = ReadFile(dir / "state");
  for (const size_t cut : {size_t{0}, size_t{10}, bytes.size() / 2, bytes.size() - 1}) {
    WriteFile(dir / "cut", bytes.substr(0, cut));
    EXPECT_FALSE(LoadCalibrationState(dir / "cut", fresh)) << cut;
  }
}

// Gathering statistics must not slow a prefill: alternating runs of the same step, medians.
TEST(Calibrate, StatisticsCostLessThanAFifthOfAPrefill) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "what a sanitizer adds to either side says nothing of the release build";
#endif
  ModelRunner runner(ModelRunner::Options(DefaultModelDir(), DType::kBf16, KvCacheDType::kBf16));
  const auto backend = MakeCpuBackend({.num_threads = 1});
  auto observer = *KvObserver::Make(runner.model().kv_layout(), true, **backend);
  const std::vector<TokenId> tokens(512, TokenId{100});
  std::vector<double> plain, observed;
  for (int round = 0; round < 9; ++round) {
    for (const bool observe : {false, true}) {
      runner.model().kv_cache().Observe(observe ? &observer : nullptr);
      Batch batch(16);
      batch.Add(tokens);
      const auto started = std::chrono::steady_clock::now();
      runner.model().Forward(batch.plan());
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - started;
      (observe ? observed : plain).push_back(took.count());
    }
  }
  std::nth_element(plain.begin(), plain.begin() + 4, plain.end());
  std::nth_element(observed.begin(), observed.begin() + 4, observed.end());
  EXPECT_GE(plain[4] / observed[4], 0.8);
  runner.model().kv_cache().Observe(nullptr);
}

}  // namespace
}  // namespace kvs
