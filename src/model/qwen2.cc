// Qwen2 and Qwen2.5 (Yang et al. 2024): Llama with a bias on Q, K and V; the layers from
// max_window_layers on may see a sliding window.
#include "model/family_config.h"
#include "model/registry.h"

namespace kvs {
namespace {

void ReadQwen2(JsonFields& fields, ModelConfig& config) {
  config.qkv_bias = true;
  SetQwenWindows(fields, config);
}

}  // namespace

extern const Architecture kQwen2;
const Architecture kQwen2 = {.name = "Qwen2ForCausalLM", .read_config = &ReadQwen2};

}  // namespace kvs
