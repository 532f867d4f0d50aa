#include "model/kv_calibration.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <utility>
#include <vector>

#include "base/log.h"
#include "kvserve/check.h"
#include "kvserve/float_bits.h"
#include "model/kv_cache.h"

namespace kvs {
namespace {

constexpr uint32_t kMaxTokens = 512;
// Random tokens understate what real text reaches. A doubled scale costs no precision in a floating
// format, only the smallest values; a clipped outlier cannot be had back.
constexpr float kHeadroom = 2.0f;

struct Largest {
  float k = 0.0f;
  float v = 0.0f;
};

std::vector<TokenId> RandomTokens(uint32_t count, uint32_t vocab_size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<TokenId> tokens(count);
  for (TokenId& token : tokens) token = {static_cast<uint32_t>(random() % vocab_size)};
  return tokens;
}

// NaN wins over every number, so that it is not lost.
float LargestOf(const float* values, size_t count) {
  float largest = 0.0f;
  for (size_t i = 0; i < count; ++i) {
    const float magnitude = std::fabs(values[i]);
    if (!(magnitude <= largest)) largest = magnitude;
  }
  return largest;
}

// Slots that no token was written to hold zeros.
Largest LargestInLayer(const KvCache& cache, uint32_t layer, Backend& backend) {
  const KvLayout& layout = cache.layout();
  const size_t count = (size_t{cache.num_blocks()} + 1) * layout.LayerBlockBytes() / sizeof(float);
  std::vector<float> values(count);
  backend.CopyToHost(values.data(), cache.View(layer).data, count * sizeof(float));
  Largest largest;
  for (uint32_t block = 1; block <= cache.num_blocks(); ++block) {
    for (uint32_t head = 0; head < layout.num_kv_heads; ++head) {
      const size_t plane = layout.PlaneElements();
      const float k = LargestOf(&values[layout.KOffset(BlockId{block}, head)], plane);
      const float v = LargestOf(&values[layout.VOffset(BlockId{block}, head)], plane);
      if (!(k <= largest.k)) largest.k = k;
      if (!(v <= largest.v)) largest.v = v;
    }
  }
  return largest;
}

// A layer that gives nothing but zeros is stored exactly by any scale.
float ScaleFor(float largest, KvCacheDType dtype) {
  const float code_max = dtype == KvCacheDType::kF8E4M3 ? kF8E4M3Max : kF8E5M2Max;
  return largest > 0.0f ? kHeadroom * largest / code_max : 1.0f;
}

void ForwardOnce(std::span<const TokenId> tokens, uint32_t num_blocks, Model& model) {
  std::vector<BlockId> table(num_blocks);
  for (uint32_t i = 0; i < num_blocks; ++i) table[i] = BlockId{i + 1};
  StepPlan plan;
  plan.slices.push_back({.token_ids = tokens, .block_table = table});
  plan.num_tokens = static_cast<uint32_t>(tokens.size());
  model.Forward(plan);
}

}  // namespace

Result<void> CalculateKvScales(const ModelLoadOptions& options, Model& model, Backend& backend) {
  const KvLayout layout = model.kv_layout();
  KVS_CHECK(IsFp8(layout.dtype));
  const uint32_t num_tokens =
      std::min({kMaxTokens, options.limits.max_num_batched_tokens, options.limits.max_model_len});
  const uint32_t num_blocks = (num_tokens + layout.block_size - 1) / layout.block_size;
  KVS_CHECK_OP(num_blocks, <=, options.num_blocks);
  KvLayout exact = layout;
  exact.dtype = KvCacheDType::kF32;
  const size_t num_scales = size_t{layout.num_layers} * layout.num_kv_heads;
  KvScales scales{std::vector<float>(num_scales, 1.0f), std::vector<float>(num_scales, 1.0f)};
  auto observed = KvCache::Make(exact, num_blocks, scales, backend);
  if (!observed) return tl::unexpected(observed.error());

  std::swap(model.kv_cache(), *observed);
  ForwardOnce(RandomTokens(num_tokens, model.config().vocab_size, options.seed), num_blocks, model);
  backend.Synchronize();
  std::swap(model.kv_cache(), *observed);

  for (uint32_t layer = 0; layer < layout.num_layers; ++layer) {
    const Largest largest = LargestInLayer(*observed, layer, backend);
    if (!std::isfinite(largest.k) || !std::isfinite(largest.v)) {
      return Error(Code::kDataError,
                   fmt::format("KV scales: layer {} gives keys or values that are not finite on "
                               "random tokens",
                               layer));
    }
    const float k = ScaleFor(largest.k, layout.dtype);
    const float v = ScaleFor(largest.v, layout.dtype);
    const size_t first = size_t{layer} * layout.num_kv_heads;
    std::fill_n(scales.k.begin() + static_cast<ptrdiff_t>(first), layout.num_kv_heads, k);
    std::fill_n(scales.v.begin() + static_cast<ptrdiff_t>(first), layout.num_kv_heads, v);
    LOG_INFO(
        "KV scales: layer {} k_scale={:.6g} v_scale={:.6g} (largest |K| {:.4g}, |V| {:.4g} of "
        "{} random tokens)",
        layer, k, v, largest.k, largest.v, num_tokens);
  }
  model.kv_cache().SetScales(scales, backend);
  return {};
}

}  // namespace kvs
