// Mistral (Jiang et al. 2023): Llama whose every layer sees a sliding window.
#include "model/family_config.h"
#include "model/registry.h"

namespace kvs {
namespace {

constexpr uint32_t kDefaultWindow = 4096;

void ReadMistral(JsonFields& fields, ModelConfig& config) {
  SetWindows(config, WindowOf(fields, config, kDefaultWindow));
}

}  // namespace

extern const Architecture kMistral;
const Architecture kMistral = {.name = "MistralForCausalLM", .read_config = &ReadMistral};

}  // namespace kvs
