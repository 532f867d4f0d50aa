// What generation_config.json says holds for every request that does not say otherwise.
#pragma once

#include <algorithm>

#include "kvserve/model_config.h"
#include "kvserve/request.h"

namespace kvs {

inline void ApplyDefaults(const GenerationDefaults& defaults, SamplingParams& sampling) {
  sampling.temperature = defaults.temperature.value_or(sampling.temperature);
  sampling.top_p = defaults.top_p.value_or(sampling.top_p);
  sampling.min_p = defaults.min_p.value_or(sampling.min_p);
  sampling.repetition_penalty = defaults.repetition_penalty.value_or(sampling.repetition_penalty);
  sampling.top_k = std::max(defaults.top_k.value_or(sampling.top_k), 0);
}

inline uint32_t CapMaxTokens(const GenerationDefaults& defaults, uint32_t max_tokens) {
  return std::min(max_tokens, defaults.max_new_tokens.value_or(max_tokens));
}

}  // namespace kvs
