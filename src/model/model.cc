#include "model/model.h"

#include <fmt/format.h>

#include <utility>

#include "kvserve/check.h"
#include "model/checkpoint.h"
#include "model/dummy_weights.h"
#include "model/kv_calibration.h"
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
          .vocab_size = config.vocab_size};
}

void CheckLimits(const StepLimits& limits) {
  KVS_CHECK_OP(limits.max_num_seqs, >, 0u);
  KVS_CHECK_OP(limits.max_num_batched_tokens, >, 0u);
  KVS_CHECK_OP(limits.max_model_len, >, 0u);
  KVS_CHECK_OP(limits.max_num_logits_rows, >=, limits.max_num_seqs);
  KVS_CHECK_OP(limits.block_size, >, 0u);
}

Result<std::unique_ptr<WeightSource>> OpenWeights(const ModelLoadOptions& options) {
  if (options.load_format == LoadFormat::kDummy) {
    return std::make_unique<DummyWeights>(options.seed, options.dtype);
  }
  auto checkpoint = Checkpoint::Open(options.model_dir);
  if (!checkpoint) return tl::unexpected(checkpoint.error());
  return std::move(*checkpoint);
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
  auto weights = OpenWeights(options);
  if (!weights) return tl::unexpected(weights.error());
  auto model = architecture->make(config, options, **weights, backend);
  if (!model) return model;
  KVS_RETURN_IF_ERROR(backend.Reserve(LimitsOf(config, options.limits)));
  if (options.calculate_kv_scales) {
    KVS_RETURN_IF_ERROR(CalculateKvScales(options, **model, backend));
  }
  return model;
}

}  // namespace kvs
