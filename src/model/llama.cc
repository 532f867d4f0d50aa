// Llama 2, 3, 3.1, 3.2 and 3.3 (Touvron et al. 2023, Grattafiori et al. 2024): what the other
// families are compared with.
#include "model/family_config.h"
#include "model/registry.h"

namespace kvs {
namespace {

void ReadLlama(JsonFields& fields, ModelConfig& config) {
  // Transformers' Llama has no window; a checkpoint that asks for one was meant for another class.
  if (!fields.Has("sliding_window") || !fields.Bool("use_sliding_window", true)) return;
  const uint32_t window = fields.Uint("sliding_window", 1, UINT32_MAX);
  if (window < config.max_position_embeddings) {
    fields.Refuse("sliding_window",
                  fmt::format("only null, or a window that covers max_position_embeddings ({}), is "
                              "supported",
                              config.max_position_embeddings));
  }
}

}  // namespace

extern const Architecture kLlama;
const Architecture kLlama = {.name = "LlamaForCausalLM", .read_config = &ReadLlama};

}  // namespace kvs
