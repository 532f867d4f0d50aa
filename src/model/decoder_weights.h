// The weights of a decoder in a backend's memory.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kvserve/backend.h"
#include "kvserve/model_config.h"
#include "model/decoder.h"
#include "model/model.h"
#include "model/weight_source.h"

namespace kvs {

struct DenseMlp {
  std::unique_ptr<LinearWeight> gate_up;  // [2 * intermediate, hidden]
  std::unique_ptr<LinearWeight> down;     // [hidden, intermediate]
};

struct DecoderLayer {
  DeviceBuffer input_norm;            // float32 [hidden]
  std::unique_ptr<LinearWeight> qkv;  // [(num_heads + 2 * num_kv_heads) * head_dim, hidden]
  DeviceBuffer qkv_bias;              // float32 [rows of qkv]; no memory without qkv_bias
  DeviceBuffer q_norm;                // float32 [head_dim]; no memory without qk_norm
  DeviceBuffer k_norm;                // the same
  std::unique_ptr<LinearWeight> o;    // [hidden, num_heads * head_dim]
  DeviceBuffer post_attention_norm;   // float32 [hidden]
  DenseMlp mlp;                       // nulls where the layer has experts

  std::unique_ptr<LinearWeight> router;  // [num_experts, hidden]; null where it has none
  std::vector<DenseMlp> experts;
  std::vector<const LinearWeight*> expert_gate_up;  // of `experts`, as ExpertLinear takes them
  std::vector<const LinearWeight*> expert_down;
};

struct DecoderWeights {
  std::unique_ptr<LinearWeight> embedding;  // [vocab_size, hidden]
  std::vector<DecoderLayer> layers;
  DeviceBuffer final_norm;                // float32 [hidden]
  std::unique_ptr<LinearWeight> lm_head;  // [vocab_size, hidden]; null when tied to the embedding
  uint64_t bytes = 0;

  const LinearWeight* output() const { return lm_head ? lm_head.get() : embedding.get(); }
};

Result<DecoderWeights> LoadDecoderWeights(const ModelConfig& config,
                                          const ModelLoadOptions& options,
                                          const ExpertNames& expert_names, WeightSource& source,
                                          Backend& backend);

}  // namespace kvs
