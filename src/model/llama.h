// Llama: RMSNorm, rotary embedding, grouped-query attention, SwiGLU (Touvron et al. 2023; Llama 3
// uses the same network). Written once over the Backend operations.
#pragma once

#include <memory>

#include "model/model.h"
#include "model/weight_source.h"

namespace kvs {

// A ready network; `weights` may go away afterwards, `backend` must outlive it.
Result<std::unique_ptr<Model>> MakeLlama(const ModelConfig& config, const ModelLoadOptions& options,
                                         WeightSource& weights, Backend& backend);

}  // namespace kvs
