// What a checkpoint's config.json says of the network, checked and complete. Made by
// model/read_config; constant after that.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kvserve/dtype.h"
#include "kvserve/ids.h"

namespace kvs {

// Rotary embedding. How a scaling changes the frequencies is as modeling_rope_utils.py of Hugging
// Face Transformers has it: `kLlama3` by wavelength (Llama 3.1), `kYarn` by a ramp over the dims
// (Peng et al. 2023).
struct RopeConfig {
  enum class Scaling : uint8_t { kNone, kLinear, kLlama3, kYarn };
  double theta = 10000.0;
  Scaling scaling = Scaling::kNone;
  double factor = 1.0;                            // of positions beyond the original ones
  uint32_t original_max_position_embeddings = 0;  // kLlama3, kYarn
  double low_freq_factor = 1.0;                   // kLlama3
  double high_freq_factor = 1.0;                  // kLlama3
  double beta_fast = 32.0;                        // kYarn: turns above which a dim is kept
  double beta_slow = 1.0;                         // kYarn: turns below which it is slowed
  bool truncate = true;                           // kYarn: the ramp begins and ends at whole dims
  double attention_factor = 1.0;                  // multiplies every cosine and sine
};

// Experts in the place of a layer's MLP: a router chooses some of them for each token, whose
// outputs are summed by weight.
struct ExpertsConfig {
  uint32_t num_experts = 0;        // 0: every layer has one MLP
  uint32_t num_per_token = 0;      // chosen for each token
  uint32_t intermediate_size = 0;  // of one expert
  bool normalize = false;          // the weights of the chosen ones are made to sum to 1
};

// Where a layer differs from the others.
struct LayerConfig {
  uint32_t window = 0;       // positions that a query sees, its own included; 0: all up to its own
  bool has_experts = false;  // in the place of its MLP
};

// generation_config.json: what a request that leaves these open gets.
struct GenerationDefaults {
  std::optional<float> temperature;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<float> repetition_penalty;
  std::optional<int32_t> top_k;
  std::optional<uint32_t> max_new_tokens;  // also the most that a request may ask for
};

// What the checkpoint says of its KV cache's quantization.
struct KvQuantScheme {
  KvCacheDType dtype = KvCacheDType::kF8E4M3;
  bool per_head = false;  // one scale per KV head, else per layer
  bool fnuz = false;      // the scales are for the FNUZ variant of E4M3, whose largest value is 240
  std::string where;      // "FILE: FIELD"
  std::string unsupported = {};  // what follows `where` in a message; empty: it can be followed
};

// Linear layers are stored as FP8, E4M3, with a scale for a matrix or a row, and multiply inputs
// that are quantized too.
struct Fp8Linear {
  bool all_layers = false;  // all those of the network's layers, so far as config.json says
};

struct ModelConfig {
  std::string architecture;  // "LlamaForCausalLM"
  uint32_t vocab_size = 0;
  uint32_t hidden_size = 0;
  uint32_t intermediate_size = 0;
  uint32_t num_layers = 0;
  uint32_t num_heads = 0;
  uint32_t num_kv_heads = 0;             // divides num_heads
  uint32_t head_dim = 0;                 // even
  uint32_t max_position_embeddings = 0;  // with what the rotary scaling adds
  float rms_norm_eps = 1e-5f;
  bool tie_word_embeddings = false;
  bool qkv_bias = false;            // Q, K and V have one
  bool qk_norm = false;             // Q and K are normalized per head, before the rotation
  std::vector<LayerConfig> layers;  // [num_layers], or empty when none differs
  ExpertsConfig experts;
  RopeConfig rope;
  DType checkpoint_dtype = DType::kBf16;   // torch_dtype, or that of the first weight
  std::optional<Fp8Linear> fp8_linear;     // absent also where FP8 is stored but meant otherwise
  std::optional<KvQuantScheme> kv_scheme;  // absent: the checkpoint does not speak of it
  std::optional<TokenId> bos_token_id;
  std::vector<TokenId> eos_token_ids;  // config.json and generation_config.json together
  GenerationDefaults generation;

  LayerConfig Layer(uint32_t index) const { return layers.empty() ? LayerConfig{} : layers[index]; }
  // Positions that a query sees in any layer, its own included; 0: all up to its own. What no later
  // query sees need not be kept.
  uint32_t Window() const {
    uint32_t widest = 0;
    for (const LayerConfig& layer : layers) {
      if (layer.window == 0) return 0;
      widest = layer.window > widest ? layer.window : widest;
    }
    return widest;
  }
};

}  // namespace kvs
