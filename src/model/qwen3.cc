// Qwen3, dense (Yang et al. 2025): Llama whose Q and K are normalized per head, with a head_dim of
// its own; windows as Qwen2.
#include "model/family_config.h"
#include "model/registry.h"

namespace kvs {
namespace {

void ReadQwen3(JsonFields& fields, ModelConfig& config) {
  config.qk_norm = true;
  SetQwenWindows(fields, config);
}

}  // namespace

extern const Architecture kQwen3;
const Architecture kQwen3 = {
    .name = "Qwen3ForCausalLM", .read_config = &ReadQwen3, .default_head_dim = 128};

}  // namespace kvs
