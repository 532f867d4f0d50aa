#include "model/model.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "base/log.h"
#include "kvserve/check.h"
#include "model/checkpoint.h"
#include "model/dummy_weights.h"
#include "model/kv_cache.h"
#include "model/kv_calibration.h"
#include "model/kv_scale_reader.h"
#include "model/registry.h"

namespace kvs {
namespace {

BackendLimits LimitsOf(const ModelConfig& config, const StepLimits& limits) {
  return {.max_num_seqs = limits.max_num_seqs,
          .max_num_batched_tokens = limits.max_num_batched_tokens,
          .max_num_logits_rows = limits.max_num_logits_rows,
          .max_model_len = limits.max_model_len,
          .num_heads = config.num_heads,
          .num_kv_heads = config.num_kv_heads,
          .head_dim = config.head_dim,
          .hidden_size = config.hidden_size,
          .intermediate_size = config.intermediate_size,
          .vocab_size = config.vocab_size,
          .experts = config.experts};
}

void CheckLimits(const StepLimits& limits) {
  KVS_CHECK_OP(limits.max_num_seqs, >, 0u);
  KVS_CHECK_OP(limits.max_num_batched_tokens, >, 0u);
  KVS_CHECK_OP(limits.max_model_len, >, 0u);
  KVS_CHECK_OP(limits.max_num_logits_rows, >=, limits.max_num_seqs);
  KVS_CHECK_OP(limits.block_size, >, 0u);
}

// The weights, and the scales that stand beside them in the checkpoint.
struct Source {
  std::unique_ptr<WeightSource> weights;
  std::optional<KvScaleSet> kv_scales;
};

Result<Source> OpenSource(const ModelConfig& config, const ModelLoadOptions& options) {
  Source source;
  if (options.load_format == LoadFormat::kDummy) {
    source.weights =
        std::make_unique<DummyWeights>(options.seed, options.dtype, config.fp8_linear.has_value());
    return source;
  }
  auto checkpoint = Checkpoint::Open(options.model_dir);
  if (!checkpoint) return tl::unexpected(checkpoint.error());
  const KvLayout layout{config.num_layers, config.num_kv_heads, config.head_dim,
                        options.limits.block_size, options.kv_dtype};
  auto scales = ReadKvScales(**checkpoint, layout, options.kv_bf16_layers,
                             config.kv_scheme && config.kv_scheme->fnuz);
  if (!scales) return tl::unexpected(scales.error().WithContext(options.model_dir.string()));
  if (*scales && config.kv_scheme && config.kv_scheme->fnuz) {
    LOG_INFO("KV scales: made for float8_e4m3fnuz, whose largest value is 240: times 240/448");
  }
  source.kv_scales = *std::move(scales);
  source.weights = std::move(*checkpoint);
  return source;
}

// The scales of an FP8 cache; none where all are 1.
Result<std::optional<KvScaleSet>> ChooseKvScales(const ModelConfig& config,
                                                 const ModelLoadOptions& options,
                                                 const KvLayout& layout,
                                                 std::optional<KvScaleSet> of_checkpoint) {
  if (!options.kv_scale_file.empty()) {
    auto of_file = ReadKvScaleFile(options.kv_scale_file, layout);
    if (!of_file) return tl::unexpected(of_file.error());
    return std::optional(*std::move(of_file));
  }
  if (of_checkpoint) return of_checkpoint;
  const std::string declared =
      config.kv_scheme ? fmt::format("{} asks for an FP8 cache, but ", config.kv_scheme->where)
                       : "";
  const std::string none = fmt::format(
      "KV scales: {}{} holds none, so every scale is 1.0 and what exceeds the largest code is "
      "clipped",
      declared, options.model_dir.string());
  const std::string advice =
      "`kvserve calibrate --model DIR --dataset FILE --output-dir DIR` gives the best scales, "
      "--calibrate-on-requests N takes them from the first N requests, --calculate-kv-scales from "
      "random tokens";
  if (options.require_kv_scales) {
    return Error(Code::kDataError, fmt::format("--require-kv-scales: {}; {}", none, advice),
                 "--require-kv-scales");
  }
  LOG_WARNING("{}. {}", none, advice);
  return std::optional<KvScaleSet>();
}

}  // namespace

Result<std::unique_ptr<Model>> Model::Load(const ModelConfig& config,
                                           const ModelLoadOptions& options, Backend& backend) {
  CheckLimits(options.limits);
  const Architecture* architecture = FindArchitecture(config.architecture);
  if (architecture == nullptr) {
    return Error(Code::kDataError, fmt::format("architecture '{}' is not supported; supported: {}",
                                               config.architecture, SupportedArchitectures()));
  }
  auto source = OpenSource(config, options);
  if (!source) return tl::unexpected(source.error());
  auto model =
      architecture->make(config, options, architecture->expert_names, *source->weights, backend);
  if (!model) return model;
  KVS_RETURN_IF_ERROR(backend.Reserve(LimitsOf(config, options.limits)));
  KvCache& cache = (*model)->kv_cache();
  if (source->kv_scales && (!IsFp8(cache.layout().dtype) || options.kv_scales_later)) {
    LOG_INFO("KV scales: those of {} are not used: {}", options.model_dir.string(),
             options.kv_scales_later
                 ? "others are to be found"
                 : "the cache is not FP8; --kv-cache-dtype fp8 would make it so");
  }
  if (options.kv_scales_later) return model;
  if (options.calculate_kv_scales) {
    KVS_RETURN_IF_ERROR(CalculateKvScales(options, **model, backend));
  } else if (IsFp8(cache.layout().dtype)) {
    auto scales = ChooseKvScales(config, options, cache.layout(), std::move(source->kv_scales));
    if (!scales) return tl::unexpected(scales.error());
    if (*scales) cache.SetScales(**scales, backend);
  }
  LogKvScales(cache);
  return model;
}

}  // namespace kvs
