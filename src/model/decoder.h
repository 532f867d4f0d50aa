// Decoder: the network of every family here, written once over the Backend operations. RMSNorm
// before each branch, rotary embedding, grouped-query attention, and a SwiGLU MLP or experts; what
// a family adds (bias, head norms, windows) is said by its ModelConfig.
#pragma once

#include <memory>
#include <string_view>

#include "model/model.h"
#include "model/weight_source.h"

namespace kvs {

// How a family spells its experts' tensors, after "model.layers.N.".
struct ExpertNames {
  std::string_view mlp = "mlp.";  // before "gate.weight" (the router) and "experts.E."
  std::string_view gate = "gate_proj.weight";
  std::string_view up = "up_proj.weight";
  std::string_view down = "down_proj.weight";
};

// A ready network; `weights` may go away afterwards, `backend` must outlive it.
Result<std::unique_ptr<Model>> MakeDecoder(const ModelConfig& config,
                                           const ModelLoadOptions& options,
                                           const ExpertNames& expert_names, WeightSource& weights,
                                           Backend& backend);

}  // namespace kvs
