// The model families kvserve can run. Adding a dense one: a file that defines it, a line in
// registry.cc (docs/adding-a-model.md).
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "model/decoder.h"
#include "model/json_fields.h"
#include "model/model.h"
#include "model/weight_source.h"

namespace kvs {

// One family. Where config.json is silent, the values here hold, which are those of the family's
// configuration class in Hugging Face Transformers.
struct Architecture {
  std::string_view name;  // as in config.json: "LlamaForCausalLM"
  // Reads what makes the family differ from plain Llama into `config`, whose common fields are
  // filled in, and refuses what it does not support.
  void (*read_config)(JsonFields& fields, ModelConfig& config);
  double default_rope_theta = 10000.0;
  double default_rms_norm_eps = 1e-6;
  uint32_t default_head_dim = 0;  // 0: hidden_size / num_attention_heads
  ExpertNames expert_names = {};
  Result<std::unique_ptr<Model>> (*make)(const ModelConfig& config, const ModelLoadOptions& options,
                                         const ExpertNames& expert_names, WeightSource& weights,
                                         Backend& backend) = &MakeDecoder;
};

const Architecture* FindArchitecture(std::string_view name);  // null when there is none
std::string SupportedArchitectures();                         // "A, B", for messages

}  // namespace kvs
