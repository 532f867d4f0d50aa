#include <algorithm>

#include "model/model.h"

namespace kvs {
namespace {

// Workspaces of the linear layers and of sampling, plans of attention, pinned copies, recorded
// graphs and the run time itself.
constexpr uint64_t kWorkspaceBytes = uint64_t{768} << 20;

uint64_t MlpWeights(const ModelConfig& config, uint32_t layer) {
  const uint64_t hidden = config.hidden_size;
  if (!config.Layer(layer).has_experts) return 3 * hidden * config.intermediate_size;
  const ExpertsConfig& experts = config.experts;
  return experts.num_experts * hidden * (1 + 3 * uint64_t{experts.intermediate_size});
}

// With `fp8`, the linear layers but experts take a byte for each weight.
uint64_t WeightBytes(const ModelConfig& config, DType dtype, bool fp8) {
  const uint64_t hidden = config.hidden_size;
  const uint64_t q = uint64_t{config.num_heads} * config.head_dim;
  const uint64_t kv = uint64_t{config.num_kv_heads} * config.head_dim;
  const uint64_t embeddings = config.tie_word_embeddings ? 1 : 2;
  uint64_t wide = embeddings * config.vocab_size * hidden, narrow = 0;
  for (uint32_t layer = 0; layer < config.num_layers; ++layer) {
    (fp8 ? narrow : wide) += 2 * hidden * (q + kv);
    (fp8 && !config.Layer(layer).has_experts ? narrow : wide) += MlpWeights(config, layer);
  }
  return wide * SizeOf(dtype) + narrow * SizeOf(DType::kF8E4M3);
}

uint64_t ActivationBytes(const ModelConfig& config, const StepLimits& limits) {
  const uint64_t q = uint64_t{config.num_heads} * config.head_dim;
  const uint64_t kv = uint64_t{config.num_kv_heads} * config.head_dim;
  const uint64_t inner =
      std::max<uint64_t>(config.intermediate_size,
                         uint64_t{config.experts.num_per_token} * config.experts.intermediate_size);
  const uint64_t outer = std::max<uint64_t>(1, config.experts.num_per_token) * config.hidden_size;
  const uint64_t of_token = 3 * uint64_t{config.hidden_size} + outer + 2 * q + 2 * kv + 3 * inner;
  const uint64_t logits = uint64_t{limits.max_num_logits_rows} * config.vocab_size * 2 * 4;
  return limits.max_num_batched_tokens * of_token * 2 + logits;
}

}  // namespace

uint64_t Model::DeviceBytes(const ModelConfig& config, const StepLimits& limits, DType dtype,
                            bool fp8) {
  const uint64_t tables = uint64_t{limits.max_num_seqs} * limits.MaxBlocksPerSeq() * 4;
  const uint64_t rotary = uint64_t{limits.max_model_len} * config.head_dim * sizeof(float);
  const uint64_t quantized = fp8 ? uint64_t{limits.max_num_batched_tokens} *
                                       std::max(config.hidden_size, config.intermediate_size)
                                 : 0;
  return WeightBytes(config, dtype, fp8) + quantized + ActivationBytes(config, limits) + tables +
         rotary + kWorkspaceBytes;
}

}  // namespace kvs
