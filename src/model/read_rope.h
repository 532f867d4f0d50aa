// The rotary embedding of config.json.
#pragma once

#include <string>

#include "kvserve/model_config.h"
#include "model/json_fields.h"

namespace kvs {

inline constexpr uint32_t kPositionsMax = 1u << 24;

// Fills in config.rope, and lengthens max_position_embeddings by what linear and YaRN scaling add.
// `where` names the file. A missing rope_theta is `default_theta`.
void ReadRope(JsonFields& fields, const std::string& where, double default_theta,
              ModelConfig& config);

}  // namespace kvs
