// Qwen3-MoE (Yang et al. 2025): Qwen3 with experts in the place of most MLPs.
#include <algorithm>

#include "model/family_config.h"
#include "model/registry.h"

namespace kvs {
namespace {

// Every decoder_sparse_step-th layer has experts, but for those that mlp_only_layers names.
void ChooseLayers(JsonFields& fields, ModelConfig& config) {
  const uint32_t step = fields.Uint("decoder_sparse_step", 1, config.num_layers, 1);
  const std::vector<uint32_t> dense = fields.Uints("mlp_only_layers", config.num_layers);
  for (uint32_t i = 0; i < config.num_layers; ++i) {
    config.layers[i].has_experts =
        (i + 1) % step == 0 && std::find(dense.begin(), dense.end(), i) == dense.end();
  }
}

void ReadQwen3Moe(JsonFields& fields, ModelConfig& config) {
  config.qk_norm = true;
  const bool has_window = fields.Bool("use_sliding_window", false);
  SetWindows(config, has_window ? WindowOf(fields, config, kQwenWindow) : 0);
  // Transformers 5 writes the second name.
  const char* count = fields.Has("num_local_experts") ? "num_local_experts" : "num_experts";
  config.experts = {
      .num_experts = fields.Uint(count, 1, kExpertsMax, 128),
      .intermediate_size = fields.Uint("moe_intermediate_size", 1, kExpertSizeMax, 768),
      .normalize = fields.Bool("norm_topk_prob", false)};
  config.experts.num_per_token = fields.Uint("num_experts_per_tok", 1, config.experts.num_experts,
                                             std::min(8u, config.experts.num_experts));
  ChooseLayers(fields, config);
}

}  // namespace

extern const Architecture kQwen3Moe;
const Architecture kQwen3Moe = {.name = "Qwen3MoeForCausalLM", .read_config = &ReadQwen3Moe};

}  // namespace kvs
