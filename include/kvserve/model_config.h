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
