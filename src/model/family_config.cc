#include "model/family_config.h"

#include <string>

namespace kvs {
namespace {

constexpr uint32_t kQwenMaxWindowLayers = 28;

// layer_types: what each layer attends to. False when the field is missing.
bool ReadLayerTypes(JsonFields& fields, ModelConfig& config, uint32_t window) {
  const Json* types = fields.Find("layer_types");
  if (types == nullptr) return false;
  if (!types->is_array() || types->size() != config.num_layers) {
    fields.Refuse("layer_types",
                  fmt::format("a list of num_hidden_layers ({}) is expected", config.num_layers));
    return true;
  }
  for (uint32_t i = 0; i < config.num_layers; ++i) {
    const Json& type = (*types)[i];
    const bool slides = type == "sliding_attention";
    if (!slides && type != "full_attention") {
      fields.Refuse("layer_types", "supported: full_attention, sliding_attention");
    }
    config.layers[i].window = slides ? window : 0;
  }
  return true;
}

}  // namespace

uint32_t WindowOf(JsonFields& fields, const ModelConfig& config, uint32_t fallback) {
  if (fields.IsNull("sliding_window")) return 0;
  const uint32_t window = fallback == 0 && !fields.Has("sliding_window")
                              ? 0
                              : fields.Uint("sliding_window", 1, UINT32_MAX, fallback);
  return window < config.max_position_embeddings ? window : 0;
}

void SetWindows(ModelConfig& config, uint32_t window) {
  config.layers.assign(config.num_layers, LayerConfig{.window = window});
}

void SetQwenWindows(JsonFields& fields, ModelConfig& config) {
  const bool has_window = fields.Bool("use_sliding_window", false);
  const uint32_t window = has_window ? WindowOf(fields, config, kQwenWindow) : 0;
  const uint32_t first = fields.Uint("max_window_layers", 0, UINT32_MAX, kQwenMaxWindowLayers);
  SetWindows(config, 0);
  if (ReadLayerTypes(fields, config, window)) return;
  for (uint32_t i = first; i < config.num_layers; ++i) config.layers[i].window = window;
}

}  // namespace kvs
