#include "model/llama_weights.h"

#include <fmt/format.h>

#include <utility>

#include "model/weight_loader.h"

namespace kvs {
namespace {

// Moves the value of a Result into `target`, or hands its error up.
template <class T>
Result<void> Take(Result<T> result, T& target) {
  if (!result) return tl::unexpected(std::move(result).error());
  target = std::move(*result);
  return {};
}

uint64_t WeightBytes(const ModelConfig& config, DType dtype) {
  const uint64_t hidden = config.hidden_size;
  const uint64_t q = uint64_t{config.num_heads} * config.head_dim;
  const uint64_t kv = uint64_t{config.num_kv_heads} * config.head_dim;
  const uint64_t layer = hidden * (2 * q + 2 * kv + 3 * uint64_t{config.intermediate_size});
  const uint64_t embeddings =
      uint64_t{config.vocab_size} * hidden * (config.tie_word_embeddings ? 1 : 2);
  const uint64_t norms = (2 * uint64_t{config.num_layers} + 1) * hidden;
  return (config.num_layers * layer + embeddings) * SizeOf(dtype) + norms * sizeof(float);
}

Result<LlamaLayer> LoadLayer(const ModelConfig& config, uint32_t index, WeightLoader& loader) {
  const std::string at = fmt::format("model.layers.{}.", index);
  const std::string attention = at + "self_attn.";
  const std::string mlp = at + "mlp.";
  const uint32_t hidden = config.hidden_size;
  const uint32_t inner = config.intermediate_size;
  const uint32_t q = config.num_heads * config.head_dim;
  const uint32_t kv = config.num_kv_heads * config.head_dim;
  LlamaLayer layer;
  KVS_RETURN_IF_ERROR(Take(loader.Norm(at + "input_layernorm.weight", hidden), layer.input_norm));
  KVS_RETURN_IF_ERROR(Take(loader.Linear({{attention + "q_proj.weight", q},
                                          {attention + "k_proj.weight", kv},
                                          {attention + "v_proj.weight", kv}},
                                         hidden),
                           layer.qkv));
  KVS_RETURN_IF_ERROR(Take(loader.Linear({{attention + "o_proj.weight", hidden}}, q), layer.o));
  KVS_RETURN_IF_ERROR(
      Take(loader.Norm(at + "post_attention_layernorm.weight", hidden), layer.post_attention_norm));
  KVS_RETURN_IF_ERROR(Take(
      loader.Linear({{mlp + "gate_proj.weight", inner}, {mlp + "up_proj.weight", inner}}, hidden),
      layer.gate_up));
  KVS_RETURN_IF_ERROR(Take(loader.Linear({{mlp + "down_proj.weight", hidden}}, inner), layer.down));
  return layer;
}

// The rotary frequencies that old exporters stored are computed; a tied output matrix is the
// embedding, whatever the file says.
bool MayBeUnused(std::string_view name) {
  return name.ends_with(".rotary_emb.inv_freq") || name == "lm_head.weight";
}

}  // namespace

Result<LlamaWeights> LoadLlamaWeights(const ModelConfig& config, const ModelLoadOptions& options,
                                      WeightSource& source, Backend& backend) {
  WeightLoader loader(source, backend, options.dtype, WeightBytes(config, options.dtype),
                      options.progress);
  const uint32_t hidden = config.hidden_size;
  LlamaWeights weights;
  KVS_RETURN_IF_ERROR(
      Take(loader.Linear({{"model.embed_tokens.weight", config.vocab_size}}, hidden),
           weights.embedding));
  for (uint32_t i = 0; i < config.num_layers; ++i) {
    KVS_RETURN_IF_ERROR(Take(LoadLayer(config, i, loader), weights.layers.emplace_back()));
  }
  KVS_RETURN_IF_ERROR(Take(loader.Norm("model.norm.weight", hidden), weights.final_norm));
  if (!config.tie_word_embeddings) {
    KVS_RETURN_IF_ERROR(
        Take(loader.Linear({{"lm_head.weight", config.vocab_size}}, hidden), weights.lm_head));
  }
  KVS_RETURN_IF_ERROR(source.Finish(MayBeUnused));
  weights.bytes = loader.bytes_done();
  return weights;
}

}  // namespace kvs
