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

// Rotary embedding. `kLlama3` is the wavelength-dependent scaling of Llama 3.1 (Hugging Face
// Transformers, modeling_rope_utils.py, _compute_llama3_parameters).
struct RopeConfig {
  enum class Scaling : uint8_t { kNone, kLlama3 };
  double theta = 10000.0;
  Scaling scaling = Scaling::kNone;
  double factor = 1.0;
  double low_freq_factor = 1.0;
  double high_freq_factor = 1.0;
  uint32_t original_max_position_embeddings = 0;
};

struct ModelConfig {
  std::string architecture;  // "LlamaForCausalLM"
  uint32_t vocab_size = 0;
  uint32_t hidden_size = 0;
  uint32_t intermediate_size = 0;
  uint32_t num_layers = 0;
  uint32_t num_heads = 0;
  uint32_t num_kv_heads = 0;  // divides num_heads
  uint32_t head_dim = 0;      // even
  uint32_t max_position_embeddings = 0;
  float rms_norm_eps = 1e-5f;
  bool tie_word_embeddings = false;
  RopeConfig rope;
  DType checkpoint_dtype = DType::kBf16;  // torch_dtype, or that of the first weight
  std::optional<TokenId> bos_token_id;
  std::vector<TokenId> eos_token_ids;  // config.json and generation_config.json together
};

}  // namespace kvs
