// generation_config.json: the tokens that end an answer, and what a request gets that leaves its
// sampling open.
#pragma once

#include <filesystem>

#include "kvserve/model_config.h"
#include "kvserve/options.h"
#include "kvserve/status.h"
#include "model/json_fields.h"

namespace kvs {

// bos_token_id and eos_token_id, beside those that are known already.
void ReadSpecialTokens(JsonFields& fields, ModelConfig& config);

// Follows --generation-config and --override-generation-config. The model's own file is optional;
// kNotFound when the directory that was asked for has none, kDataError or kInvalidArgument for a
// field's value.
Result<void> ReadGenerationConfig(const std::filesystem::path& model_dir, const ModelOptions& asked,
                                  ModelConfig& config);

}  // namespace kvs
