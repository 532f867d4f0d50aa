// CalculateKvScales: statistics of random tokens at start.
#include "model/kv_calibration.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>
#include <utility>
#include <vector>

#include "base/log.h"
#include "kvserve/check.h"
#include "model/kv_cache.h"

namespace kvs {
namespace {

constexpr uint32_t kMaxTokens = 512;
// Random tokens understate what real text reaches. A doubled scale costs no precision in a floating
// format, only the smallest values; a clipped outlier cannot be had back.
constexpr float kHeadroom = 2.0f;

std::vector<TokenId> RandomTokens(uint32_t count, uint32_t vocab_size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<TokenId> tokens(count);
  for (TokenId& token : tokens) token = {static_cast<uint32_t>(random() % vocab_size)};
  return tokens;
}

void ForwardOnce(std::span<const TokenId> tokens, uint32_t num_blocks, Model& model) {
  std::vector<BlockId> table(num_blocks);
  for (uint32_t i = 0; i < num_blocks; ++i) table[i] = BlockId{i + 1};
  StepPlan plan;
  plan.slices.push_back({.token_ids = tokens, .block_table = table});
  plan.num_tokens = static_cast<uint32_t>(tokens.size());
  model.Forward(plan);
}

// The widest cache that the device can attend to.
KvLayout WidestLayout(const Model& model, const Backend& backend) {
  const KvLayout exact = model.kv_layout().As(KvCacheDType::kF32);
  if (backend.CheckSupport(exact, model.config().num_heads)) return exact;
  return exact.As(KvCacheDType::kBf16);
}

// Of one sequence of random tokens, computed without an FP8 cache: what the layers above see is not
// yet spoilt by a scale that is to be found.
Result<KvStatistics> Observe(std::span<const TokenId> tokens, Model& model, Backend& backend) {
  const KvLayout exact = WidestLayout(model, backend);
  const auto num_tokens = static_cast<uint32_t>(tokens.size());
  const uint32_t num_blocks = (num_tokens + exact.block_size - 1) / exact.block_size;
  auto cache = KvCache::Make(exact, num_blocks, {}, backend);
  if (!cache) return tl::unexpected(cache.error());
  auto observer = KvObserver::Make(exact, /*with_counts=*/false, backend);
  if (!observer) return tl::unexpected(observer.error());
  cache->Observe(&*observer);

  std::swap(model.kv_cache(), *cache);
  ForwardOnce(tokens, num_blocks, model);
  KvStatistics statistics(exact);
  observer->Collect(statistics, backend);
  std::swap(model.kv_cache(), *cache);
  return statistics;
}

}  // namespace

Result<void> CalculateKvScales(const ModelLoadOptions& options, Model& model, Backend& backend) {
  const KvLayout layout = model.kv_layout();
  KVS_CHECK(IsFp8(layout.dtype));
  const uint32_t num_tokens =
      std::min({kMaxTokens, options.limits.max_num_batched_tokens, options.limits.max_model_len});
  KVS_CHECK_OP(num_tokens, <=, options.num_blocks * layout.block_size);
  const auto statistics =
      Observe(RandomTokens(num_tokens, model.config().vocab_size, options.seed), model, backend);
  if (!statistics) return tl::unexpected(statistics.error());
  auto scales = FitKvScales(
      *statistics,
      {.per_head = options.kv_scales_per_head, .headroom = kHeadroom, .dtype = layout.dtype});
  if (!scales) return tl::unexpected(scales.error().WithContext("on random tokens"));

  KvScaleSet set;
  set.source = KvScaleSource::kRandomTokens;
  set.scales = *std::move(scales);
  const std::string name = fmt::format("{} random tokens", num_tokens);
  set.origins.assign(layout.num_layers, {name, name});
  model.kv_cache().SetScales(set, backend);
  return {};
}

}  // namespace kvs
