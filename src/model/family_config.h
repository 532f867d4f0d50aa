// What several families' configurations have in common.
#pragma once

#include <fmt/format.h>

#include <cstdint>

#include "kvserve/model_config.h"
#include "model/json_fields.h"

namespace kvs {

inline constexpr uint32_t kExpertsMax = 1024;
inline constexpr uint32_t kExpertSizeMax = 1u << 20;
inline constexpr uint32_t kQwenWindow = 4096;  // of Qwen configurations that do not say

// sliding_window: `fallback` when it is missing, none when it is null or covers all positions.
uint32_t WindowOf(JsonFields& fields, const ModelConfig& config, uint32_t fallback);

// Fills in config.layers, all with this window.
void SetWindows(ModelConfig& config, uint32_t window);

// The rule of Qwen2 and Qwen3: with use_sliding_window, the layers that layer_types names, or else
// those from max_window_layers on, have a window.
void SetQwenWindows(JsonFields& fields, ModelConfig& config);

}  // namespace kvs
