// Model files, tokenizer, chat template and KV scales: lines of the report, and what later checks
// need of them.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "doctor/check.h"
#include "kvserve/model_config.h"
#include "model/checkpoint.h"
#include "tokenize/tokenizer.h"

namespace kvs {

struct CheckedModel {
  std::filesystem::path dir;
  std::optional<ModelConfig> config;     // empty: it could not be read
  std::unique_ptr<Checkpoint> weights;   // null: missing or damaged
  uint64_t weight_bytes = 0;             // of the files
  std::unique_ptr<Tokenizer> tokenizer;  // null: it could not be loaded
  std::vector<Check> checks;

  // Whether a server can be expected to start.
  bool usable() const { return config && weights != nullptr && tokenizer != nullptr; }
};

// Finds `model` as the daemon does, and fetches it from the Hub where it is one of those.
CheckedModel CheckModel(const std::string& model, const std::string& revision);

}  // namespace kvs
