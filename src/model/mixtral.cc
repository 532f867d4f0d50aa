// Mixtral (Jiang et al. 2024): Mistral with experts in the place of every MLP.
#include "model/family_config.h"
#include "model/registry.h"

namespace kvs {
namespace {

void ReadMixtral(JsonFields& fields, ModelConfig& config) {
  SetWindows(config, WindowOf(fields, config, 0));
  config.experts = {.num_experts = fields.Uint("num_local_experts", 1, kExpertsMax, 8),
                    .intermediate_size = config.intermediate_size,
                    .normalize = true};
  config.experts.num_per_token =
      fields.Uint("num_experts_per_tok", 1, config.experts.num_experts, 2);
  for (LayerConfig& layer : config.layers) layer.has_experts = true;
}

}  // namespace

extern const Architecture kMixtral;
const Architecture kMixtral = {
    .name = "MixtralForCausalLM",
    .read_config = &ReadMixtral,
    .default_rope_theta = 1e6,
    .default_rms_norm_eps = 1e-5,
    .expert_names = {
        .mlp = "block_sparse_moe.", .gate = "w1.weight", .up = "w3.weight", .down = "w2.weight"}};

}  // namespace kvs
