// Scales from random tokens at start: what they are made of, and that FP8 is no worse with them.
#include "model/kv_calibration.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "kvserve/float_bits.h"
#include "model/kv_cache.h"
#include "unit/model/model_runner.h"

namespace kvs {
namespace {

const std::filesystem::path kBundled = std::filesystem::path(KVS_SOURCE_DIR) / "models/default";

ModelLoadOptions Calibrated(KvCacheDType kv_dtype) {
  ModelLoadOptions options = ModelRunner::Options(kBundled, DType::kBf16, kv_dtype);
  options.calculate_kv_scales = true;
  return options;
}

std::vector<float> ScalesOf(Model& model) {
  const KvLayout layout = model.kv_layout();
  std::vector<float> scales;
  for (uint32_t layer = 0; layer < layout.num_layers; ++layer) {
    const KvView view = model.kv_cache().View(layer);
    scales.insert(scales.end(), view.k_scale, view.k_scale + layout.num_kv_heads);
    scales.insert(scales.end(), view.v_scale, view.v_scale + layout.num_kv_heads);
  }
  return scales;
}

std::vector<TokenId> Text() {
  std::vector<TokenId> tokens;
  uint32_t state = 5;
  for (int i = 0; i < 200; ++i) {
    state = state * 1664525u + 1013904223u;
    tokens.push_back({(state >> 8) % 4000});
  }
  return tokens;
}

// Largest magnitude of each layer's K, then V, over all heads, of `tokens` in a float32 cache.
std::vector<float> LargestOf(const std::vector<TokenId>& tokens) {
  ModelRunner exact(ModelRunner::Options(kBundled, DType::kBf16, KvCacheDType::kF32));
  TestSequence sequence = exact.NewSequence(tokens);
  exact.RunAll(sequence, 200);
  const KvLayout layout = exact.model().kv_layout();
  std::vector<float> largest;
  for (uint32_t layer = 0; layer < layout.num_layers; ++layer) {
    const auto* data = static_cast<const float*>(exact.model().kv_cache().View(layer).data);
    float k = 0.0f, v = 0.0f;
    for (const BlockId block : sequence.blocks) {
      for (uint32_t head = 0; head < layout.num_kv_heads; ++head) {
        for (size_t i = 0; i < layout.PlaneElements(); ++i) {
          k = std::max(k, std::fabs(data[layout.KOffset(block, head) + i]));
          v = std::max(v, std::fabs(data[layout.VOffset(block, head) + i]));
        }
      }
    }
    largest.insert(largest.end(), {k, v});
  }
  return largest;
}

TEST(KvCalibration, ScalesFollowWhatTheLayersHold) {
  ModelRunner runner(Calibrated(KvCacheDType::kF8E4M3));
  const std::vector<float> scales = ScalesOf(runner.model());
  const std::vector<float> largest = LargestOf(Text());
  const uint32_t num_heads = runner.model().kv_layout().num_kv_heads;
  ASSERT_EQ(scales.size(), largest.size() * num_heads);
  for (size_t i = 0; i < largest.size(); ++i) {
    for (uint32_t head = 0; head < num_heads; ++head) {
      const float scale = scales[i * num_heads + head];
      EXPECT_EQ(scale, scales[i * num_heads]) << "one scale for the heads of a layer";
      // Other random tokens reach about as far: the range with its doubling covers them.
      EXPECT_GT(scale * kF8E4M3Max, largest[i]) << i;
      EXPECT_LT(scale * kF8E4M3Max, largest[i] * 4) << i;
    }
  }
}

TEST(KvCalibration, E5M2ScalesReachAsFar) {
  ModelRunner e4m3(Calibrated(KvCacheDType::kF8E4M3));
  ModelRunner e5m2(Calibrated(KvCacheDType::kF8E5M2));
  const std::vector<float> narrow = ScalesOf(e4m3.model());
  const std::vector<float> wide = ScalesOf(e5m2.model());
  for (size_t i = 0; i < narrow.size(); ++i) {
    EXPECT_FLOAT_EQ(narrow[i] * kF8E4M3Max, wide[i] * kF8E5M2Max) << i;
  }
}

TEST(KvCalibration, IsTheSameAtEveryStartAndLeavesAnEmptyPool) {
  ModelRunner first(Calibrated(KvCacheDType::kF8E4M3));
  ModelRunner second(Calibrated(KvCacheDType::kF8E4M3));
  EXPECT_EQ(ScalesOf(first.model()), ScalesOf(second.model()));
  EXPECT_EQ(first.model().num_saturated(), 0u);
  const KvLayout layout = first.model().kv_layout();
  const auto* data = static_cast<const uint8_t*>(first.model().kv_cache().View(0).data);
  const size_t bytes = (ModelRunner::kNumBlocks + 1) * layout.LayerBlockBytes();
  EXPECT_EQ(std::count(data, data + bytes, 0), static_cast<ptrdiff_t>(bytes));
}

TEST(KvCalibration, LogitsStayAsCloseAsWithScaleOne) {
  const auto last_logits = [](const ModelLoadOptions& options) {
    ModelRunner runner(options);
    TestSequence sequence = runner.NewSequence(Text());
    return runner.RunAll(sequence, 200).back();
  };
  const auto distance = [](const std::vector<float>& a, const std::vector<float>& b) {
    double sum = 0.0;
    for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return std::sqrt(sum / static_cast<double>(a.size()));
  };
  const auto exact = last_logits(ModelRunner::Options(kBundled, DType::kBf16, KvCacheDType::kF32));
  const auto raw = last_logits(ModelRunner::Options(kBundled, DType::kBf16, KvCacheDType::kF8E4M3));
  const auto calibrated = last_logits(Calibrated(KvCacheDType::kF8E4M3));
  EXPECT_GT(distance(exact, calibrated), 0.0);
  EXPECT_LT(distance(exact, calibrated), 2.0 * distance(exact, raw));
}

}  // namespace
}  // namespace kvs
