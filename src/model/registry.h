// The network architectures kvserve can run. Adding one: a file that defines its factory, a line in
// registry.cc.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "model/model.h"
#include "model/weight_source.h"

namespace kvs {

struct Architecture {
  std::string_view name;  // as in config.json: "LlamaForCausalLM"
  Result<std::unique_ptr<Model>> (*make)(const ModelConfig& config, const ModelLoadOptions& options,
                                         WeightSource& weights, Backend& backend);
};

const Architecture* FindArchitecture(std::string_view name);  // null when there is none
std::string SupportedArchitectures();                         // "A, B", for messages

}  // namespace kvs
