#include "model/decoder_weights.h"

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "model/weight_loader.h"

namespace kvs {
namespace {

constexpr char kNotByLinear[] = "embeddings, routers and experts are multiplied as 16 bits";

// Why the matrices of the layers are not held as FP8, whatever they are stored as.
std::string WhyNoFp8(const ModelConfig& config) {
  return config.fp8_linear ? "" : "config.json quantizes their inputs not at all, or by groups";
}

// Lists a gated MLP whose tensors stand under `at`.
void ListMlp(const std::string& at, const ExpertNames& names, uint32_t hidden, uint32_t inner,
             const std::string& why_not_fp8, DenseMlp& mlp, WeightLoader& loader) {
  loader.AddLinear(mlp.gate_up,
                   {{at + std::string(names.gate), inner}, {at + std::string(names.up), inner}},
                   hidden, why_not_fp8);
  loader.AddLinear(mlp.down, {{at + std::string(names.down), hidden}}, inner, why_not_fp8);
}

void ListExperts(const ModelConfig& config, const std::string& at, const ExpertNames& names,
                 DecoderLayer& layer, WeightLoader& loader) {
  const std::string mlp = at + std::string(names.mlp);
  loader.AddLinear(layer.router, {{mlp + "gate.weight", config.experts.num_experts}},
                   config.hidden_size, kNotByLinear);
  layer.experts.resize(config.experts.num_experts);
  for (uint32_t e = 0; e < config.experts.num_experts; ++e) {
    ListMlp(fmt::format("{}experts.{}.", mlp, e), names, config.hidden_size,
            config.experts.intermediate_size, kNotByLinear, layer.experts[e], loader);
  }
}

void ListAttention(const ModelConfig& config, const std::string& at, DecoderLayer& layer,
                   WeightLoader& loader) {
  const uint32_t q = config.num_heads * config.head_dim;
  const uint32_t kv = config.num_kv_heads * config.head_dim;
  loader.AddLinear(
      layer.qkv,
      {{at + "q_proj.weight", q}, {at + "k_proj.weight", kv}, {at + "v_proj.weight", kv}},
      config.hidden_size, WhyNoFp8(config));
  if (config.qkv_bias) {
    loader.AddVector(layer.qkv_bias,
                     {{at + "q_proj.bias", q}, {at + "k_proj.bias", kv}, {at + "v_proj.bias", kv}});
  }
  if (config.qk_norm) {
    loader.AddVector(layer.q_norm, {{at + "q_norm.weight", config.head_dim}});
    loader.AddVector(layer.k_norm, {{at + "k_norm.weight", config.head_dim}});
  }
  loader.AddLinear(layer.o, {{at + "o_proj.weight", config.hidden_size}}, q, WhyNoFp8(config));
}

void ListLayer(const ModelConfig& config, uint32_t index, const ExpertNames& expert_names,
               DecoderLayer& layer, WeightLoader& loader) {
  const std::string at = fmt::format("model.layers.{}.", index);
  loader.AddVector(layer.input_norm, {{at + "input_layernorm.weight", config.hidden_size}});
  ListAttention(config, at + "self_attn.", layer, loader);
  loader.AddVector(layer.post_attention_norm,
                   {{at + "post_attention_layernorm.weight", config.hidden_size}});
  if (config.Layer(index).has_experts) {
    ListExperts(config, at, expert_names, layer, loader);
  } else {
    ListMlp(at + "mlp.", ExpertNames{}, config.hidden_size, config.intermediate_size,
            WhyNoFp8(config), layer.mlp, loader);
  }
}

void PointAtExperts(DecoderLayer& layer) {
  for (const DenseMlp& expert : layer.experts) {
    layer.expert_gate_up.push_back(expert.gate_up.get());
    layer.expert_down.push_back(expert.down.get());
  }
}

// The rotary frequencies that old exporters stored are computed; a tied output matrix is the
// embedding, whatever the file says.
bool MayBeUnused(std::string_view name) {
  return name.ends_with(".rotary_emb.inv_freq") || name == "lm_head.weight";
}

}  // namespace

Result<DecoderWeights> LoadDecoderWeights(const ModelConfig& config,
                                          const ModelLoadOptions& options,
                                          const ExpertNames& expert_names, WeightSource& source,
                                          Backend& backend) {
  WeightLoader loader(options.dtype, options.progress);
  DecoderWeights weights;
  weights.layers.resize(config.num_layers);
  loader.AddLinear(weights.embedding, {{"model.embed_tokens.weight", config.vocab_size}},
                   config.hidden_size, kNotByLinear);
  for (uint32_t i = 0; i < config.num_layers; ++i) {
    ListLayer(config, i, expert_names, weights.layers[i], loader);
  }
  loader.AddVector(weights.final_norm, {{"model.norm.weight", config.hidden_size}});
  if (!config.tie_word_embeddings) {
    loader.AddLinear(weights.lm_head, {{"lm_head.weight", config.vocab_size}}, config.hidden_size,
                     WhyNoFp8(config));
  }
  KVS_RETURN_IF_ERROR(loader.Load(source, backend));
  KVS_RETURN_IF_ERROR(source.Finish(MayBeUnused));
  for (DecoderLayer& layer : weights.layers) PointAtExperts(layer);
  weights.bytes = loader.total_bytes();
  return weights;
}

}  // namespace kvs
