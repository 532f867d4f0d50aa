// --calibrate-on-requests at the level of the model: BF16 and observed, then FP8 with what was
// seen.
#include "model/request_calibration.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <vector>

#include "kvserve/float_bits.h"
#include "model/checkpoint.h"
#include "model/kv_calibration.h"
#include "model/kv_scale_artifact.h"
#include "model/kv_scale_reader.h"
#include "unit/model/model_runner.h"

namespace kvs {
namespace {

namespace fs = std::filesystem;

const fs::path kBundledModel = fs::path(KVS_SOURCE_DIR) / "models/default";

std::vector<TokenId> SomeTokens(uint32_t count) {
  std::vector<TokenId> tokens;
  uint32_t state = 5;
  for (uint32_t i = 0; i < count; ++i) {
    state = state * 1664525u + 1013904223u;
    tokens.push_back({(state >> 8) % 4000});
  }
  return tokens;
}

class RequestCalibrationTest : public ::testing::Test {
 protected:
  RequestCalibrationTest() : backend_(*MakeCpuBackend({.num_threads = 2})) {
    ModelLoadOptions load =
        ModelRunner::Options(kBundledModel, DType::kBf16, KvCacheDType::kF8E4M3);
    load.kv_scales_later = true;
    model_ = *Model::Load(*ReadModelConfig(kBundledModel), load, *backend_);
    options_ = {.num_requests = 2,
                .num_bf16_blocks = 128,
                .model_dir = kBundledModel,
                .checkpoint_dtype = DType::kBf16};
  }

  std::vector<float> LogitsOf(const std::vector<TokenId>& tokens) {
    std::vector<BlockId> table;
    for (uint32_t i = 0; i * 16 < tokens.size(); ++i) table.push_back({i + 1});
    StepPlan plan;
    plan.slices.push_back({tokens, 0, table, 1});
    plan.num_tokens = static_cast<uint32_t>(tokens.size());
    plan.num_logits_rows = 1;
    const float* logits = model_->Forward(plan);
    return {logits, logits + model_->config().vocab_size};
  }

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  RequestCalibrationOptions options_;
};

TEST_F(RequestCalibrationTest, ScalesAreWhatTheTokensReached) {
  auto calibration = RequestCalibration::Begin(options_, *model_, *backend_);
  ASSERT_TRUE(calibration) << calibration.error().message();
  EXPECT_EQ(model_->kv_layout().dtype, KvCacheDType::kBf16);
  EXPECT_EQ(model_->kv_cache().num_blocks(), 128u);
  EXPECT_EQ(ToString(model_->kv_cache().scales().source), "requests_awaited");
  const uint64_t bf16_identity = model_->kv_cache().Identity();
  const std::vector<TokenId> tokens = SomeTokens(200);
  LogitsOf(tokens);

  // The largest magnitudes, from the cache itself.
  const KvLayout layout = model_->kv_layout();
  const auto* cells = static_cast<const uint16_t*>(model_->kv_cache().View(3).data);
  float largest = 0.0f;
  for (uint32_t position = 0; position < 200; ++position) {
    for (uint32_t head = 0; head < layout.num_kv_heads; ++head) {
      const size_t at = layout.KOffset({position / 16 + 1}, head) + position % 16 * layout.head_dim;
      for (uint32_t i = 0; i < layout.head_dim; ++i) {
        largest = std::max(largest, std::fabs(Bf16ToFloat(cells[at + i])));
      }
    }
  }

  ASSERT_TRUE((*calibration)->Switch());
  const KvCache& cache = model_->kv_cache();
  EXPECT_EQ(cache.layout().dtype, KvCacheDType::kF8E4M3);
  EXPECT_EQ(cache.num_blocks(), ModelRunner::kNumBlocks);
  EXPECT_EQ(ToString(cache.scales().source), "requests");
  EXPECT_EQ(cache.scales().origins[3].k, "2 requests");
  EXPECT_NE(cache.Identity(), bf16_identity);
  const float scale = cache.scales().scales.k[size_t{3} * layout.num_kv_heads];
  EXPECT_GE(scale * 448.0f, largest * 0.995f) << "observed before it was rounded to BF16";
  EXPECT_LE(scale * 448.0f, largest * 1.02f);
  LogitsOf(tokens);
  // Quantization moves what the layers above store, so that the largest may be passed by a little.
  EXPECT_LT(model_->num_saturated(), 20u) << "of 819200 values";
}

TEST_F(RequestCalibrationTest, WritesTheModelWithTheScalesItServesWith) {
  const fs::path dir = fs::path(testing::TempDir()) / "request_scales";
  fs::remove_all(dir);
  options_.output_dir = dir;
  options_.per_head = true;
  auto calibration = RequestCalibration::Begin(options_, *model_, *backend_);
  ASSERT_TRUE(calibration) << calibration.error().message();
  LogitsOf(SomeTokens(100));
  ASSERT_TRUE((*calibration)->Switch());
  calibration->reset();  // waits for the directory
  const auto config = ReadModelConfig(dir);
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_TRUE(config->kv_scheme && config->kv_scheme->per_head);
  auto checkpoint = Checkpoint::Open(dir);
  ASSERT_TRUE(checkpoint) << checkpoint.error().message();
  const auto read = ReadKvScales(**checkpoint, model_->kv_layout(), {}, false);
  ASSERT_TRUE(read && *read);
  EXPECT_EQ((*read)->scales.k, model_->kv_cache().scales().scales.k);
  EXPECT_EQ((*read)->scales.v, model_->kv_cache().scales().scales.v);
  EXPECT_TRUE((*read)->IsPerHead(model_->kv_layout().num_kv_heads));
  fs::remove_all(dir);
}

TEST_F(RequestCalibrationTest, ADirectoryThatIsThereIsRefusedAtOnce) {
  options_.output_dir = kBundledModel;
  const auto calibration = RequestCalibration::Begin(options_, *model_, *backend_);
  ASSERT_FALSE(calibration);
  EXPECT_NE(calibration.error().message().find("--kv-scales-output-dir: "), std::string::npos);
  EXPECT_NE(calibration.error().message().find("is there already"), std::string::npos);
}

TEST_F(RequestCalibrationTest, LayersKeptInBf16StaySo) {
  ModelLoadOptions load = ModelRunner::Options(kBundledModel, DType::kBf16, KvCacheDType::kF8E4M3);
  load.kv_scales_later = true;
  load.kv_bf16_layers = {1};
  model_ = *Model::Load(*ReadModelConfig(kBundledModel), load, *backend_);
  options_.bf16_layers = {1};
  auto calibration = RequestCalibration::Begin(options_, *model_, *backend_);
  ASSERT_TRUE(calibration) << calibration.error().message();
  LogitsOf(SomeTokens(50));
  ASSERT_TRUE((*calibration)->Switch());
  const auto& dtypes = model_->kv_cache().layer_dtypes();
  EXPECT_EQ(dtypes[0], KvCacheDType::kF8E4M3);
  EXPECT_EQ(dtypes[1], KvCacheDType::kBf16);
  EXPECT_EQ(model_->kv_cache().scales().scales.k[model_->kv_layout().num_kv_heads], 1.0f);
}

}  // namespace
}  // namespace kvs
