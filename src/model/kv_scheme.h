// What a checkpoint says of its KV cache: compressed-tensors' and ModelOpt's configuration.
#pragma once

#include <filesystem>

#include "kvserve/model_config.h"
#include "kvserve/status.h"
#include "model/json_file.h"

namespace kvs {

// ModelOpt's file beside config.json.
inline constexpr char kHfQuantConfig[] = "hf_quant_config.json";

// From config.json's quantization_config.kv_cache_scheme (an object, or ModelOpt's string), else
// from hf_quant_config.json in the same directory. Empty when neither speaks of the KV cache. A
// scheme that kvserve cannot follow is returned with `unsupported` set; kDataError when a field has
// a value that means nothing.
Result<std::optional<KvQuantScheme>> ReadKvScheme(const Json& config,
                                                  const std::filesystem::path& model_dir);

// Whether a quantization_config is of weights or activations too, and not of the KV cache alone.
bool QuantizesMoreThanKv(const Json& quantization_config);

}  // namespace kvs
