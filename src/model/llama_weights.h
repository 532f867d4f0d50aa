// The weights of a Llama network in a backend's memory.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "kvserve/backend.h"
#include "kvserve/model_config.h"
#include "model/model.h"
#include "model/weight_source.h"

namespace kvs {

struct LlamaLayer {
  DeviceBuffer input_norm;                // float32 [hidden]
  std::unique_ptr<LinearWeight> qkv;      // [(num_heads + 2 * num_kv_heads) * head_dim, hidden]
  std::unique_ptr<LinearWeight> o;        // [hidden, num_heads * head_dim]
  DeviceBuffer post_attention_norm;       // float32 [hidden]
  std::unique_ptr<LinearWeight> gate_up;  // [2 * intermediate, hidden]
  std::unique_ptr<LinearWeight> down;     // [hidden, intermediate]
};

struct LlamaWeights {
  std::unique_ptr<LinearWeight> embedding;  // [vocab_size, hidden]
  std::vector<LlamaLayer> layers;
  DeviceBuffer final_norm;                // float32 [hidden]
  std::unique_ptr<LinearWeight> lm_head;  // [vocab_size, hidden]; null when tied to the embedding
  uint64_t bytes = 0;

  const LinearWeight* output() const { return lm_head ? lm_head.get() : embedding.get(); }
};

Result<LlamaWeights> LoadLlamaWeights(const ModelConfig& config, const ModelLoadOptions& options,
                                      WeightSource& source, Backend& backend);

}  // namespace kvs
