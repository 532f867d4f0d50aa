// Scales of the KV cache out of a checkpoint's tensors or a file of their own.
#pragma once

#include <filesystem>
#include <optional>
#include <string_view>

#include "kvserve/kv_layout.h"
#include "kvserve/model_config.h"
#include "model/checkpoint.h"
#include "model/kv_scales.h"

namespace kvs {

// What a tensor's name says about the KV cache, whoever wrote it.
struct KvTensorName {
  enum class Kind : uint8_t { kK, kV, kBoth, kKZeroPoint, kVZeroPoint, kUnused };
  uint32_t layer;
  Kind kind;  // kUnused: a scale of queries or probabilities, which stay in 16 bits here
};

// Empty for a tensor that is not about the KV cache. Known, after "layers.N.self_attn.":
//   k_scale, v_scale (compressed-tensors; also below "attn."), kv_scale (one for both),
//   {k,v,qkv,qkqkv}_proj.{k,v}_scale (ModelOpt), {k,v}_proj.output_scale, {k,v}_cache.scale,
//   {k,v}_zero_point, and the same of q, which is not used.
std::optional<KvTensorName> ParseKvTensorName(std::string_view name);

// Every scale of the checkpoint, all counted as used. Empty when it has none. A tensor holds one
// value for the layer or one per KV head, in any shape and floating type. kDataError names layer
// and tensor: scales for some layers alone, for K but not V, two names that differ, a value that is
// not plausible, a zero point that is not zero, another number of values. Layers in `skip` need
// none. `fnuz`: the scales were made for the FNUZ format, whose largest value is 240.
Result<std::optional<KvScaleSet>> ReadKvScales(Checkpoint& checkpoint, const KvLayout& layout,
                                               const std::vector<uint32_t>& skip, bool fnuz);

// The JSON of --quantization-param-path:
//   {"model_type": "llama", "kv_cache": {"dtype": "float8_e4m3fn",
//                                        "scaling_factor": {"0": {"LAYER": SCALE, ...}}}}
// One scale for K and V of each layer; every layer must be there, and rank "0" alone. kNotFound;
// kDataError names the file and the layer.
Result<KvScaleSet> ReadKvScaleFile(const std::filesystem::path& path, const KvLayout& layout);

}  // namespace kvs
