// The table of rotary embeddings (Su et al. 2021).
#pragma once

#include <cstdint>
#include <vector>

#include "kvserve/model_config.h"

namespace kvs {

// [max_position, head_dim] for RopeKvStoreParams::cos_sin: of position p, cos(p * f_i) for
// i < head_dim / 2, then sin(p * f_i), where f_i = theta^(-2i / head_dim), scaled as `config` says;
// all times its attention_factor, so that a scaling costs the kernels nothing.
// Computed in double and rounded once.
std::vector<float> MakeRopeTable(const RopeConfig& config, uint32_t head_dim,
                                 uint32_t max_position);

}  // namespace kvs
