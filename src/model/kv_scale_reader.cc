#include "model/kv_scale_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string>
#include <utility>

namespace kvs {
namespace {

using Kind = KvTensorName::Kind;

struct Suffix {
  std::string_view text;  // after "layers.N.self_attn."
  Kind kind;
};

constexpr Suffix kSuffixes[] = {
    {"k_scale", Kind::kK},
    {"v_scale", Kind::kV},
    {"attn.k_scale", Kind::kK},
    {"attn.v_scale", Kind::kV},
    {"kv_scale", Kind::kBoth},
    {"attn.kv_scale", Kind::kBoth},
    {"k_proj.k_scale", Kind::kK},
    {"v_proj.v_scale", Kind::kV},
    {"qkv_proj.k_scale", Kind::kK},
    {"qkv_proj.v_scale", Kind::kV},
    {"qkqkv_proj.k_scale", Kind::kK},
    {"qkqkv_proj.v_scale", Kind::kV},
    {"k_proj.output_scale", Kind::kK},
    {"v_proj.output_scale", Kind::kV},
    {"k_cache.scale", Kind::kK},
    {"v_cache.scale", Kind::kV},
    {"k_zero_point", Kind::kKZeroPoint},
    {"v_zero_point", Kind::kVZeroPoint},
    {"q_scale", Kind::kUnused},
    {"attn.q_scale", Kind::kUnused},
    {"q_zero_point", Kind::kUnused},
    {"q_proj.output_scale", Kind::kUnused},
    {"q_proj.q_scale", Kind::kUnused},
    {"q.scale", Kind::kUnused},
    {"prob_output_scale", Kind::kUnused},
    {"attn.prob_scale", Kind::kUnused},
};

tl::unexpected<Status> LayerError(uint32_t layer, const std::string& what) {
  return Error(Code::kDataError, fmt::format("KV scales: layer {}: {}", layer, what));
}

// Scales of one layer while they are read.
struct Half {
  std::string name;           // empty: not seen
  std::vector<float> values;  // [num_kv_heads]
};

class Reader {
 public:
  Reader(Checkpoint& checkpoint, const KvLayout& layout)
      : checkpoint_(checkpoint), layout_(layout), k_(layout.num_layers), v_(layout.num_layers) {}

  Result<void> Take(const std::string& name, const KvTensorName& parsed);
  Result<void> CheckComplete(const std::vector<uint32_t>& skip) const;
  bool found() const { return found_; }
  KvScaleSet Finish(bool fnuz) const;

 private:
  Result<void> Put(const std::string& name, uint32_t layer, const std::vector<float>& values,
                   Half& half);

  Checkpoint& checkpoint_;
  const KvLayout layout_;
  std::vector<Half> k_;
  std::vector<Half> v_;
  bool found_ = false;
};

Result<void> Reader::Take(const std::string& name, const KvTensorName& parsed) {
  const auto values = checkpoint_.Values(name, layout_.num_kv_heads * 64);
  if (!values) return tl::unexpected(values.error());
  if (parsed.kind == Kind::kUnused) return {};
  if (parsed.layer >= layout_.num_layers) {
    return LayerError(parsed.layer, fmt::format("tensor '{}' is of a layer that is not there; the "
                                                "model has {}",
                                                name, layout_.num_layers));
  }
  if (parsed.kind == Kind::kKZeroPoint || parsed.kind == Kind::kVZeroPoint) {
    for (const float value : *values) {
      if (value == 0.0f) continue;
      return LayerError(parsed.layer, fmt::format("tensor '{}' holds {}; zero points must be 0 "
                                                  "(symmetric quantization)",
                                                  name, value));
    }
    return {};
  }
  found_ = true;
  if (parsed.kind != Kind::kV) {
    KVS_RETURN_IF_ERROR(Put(name, parsed.layer, *values, k_[parsed.layer]));
  }
  if (parsed.kind == Kind::kK) return {};
  return Put(name, parsed.layer, *values, v_[parsed.layer]);
}

Result<void> Reader::Put(const std::string& name, uint32_t layer, const std::vector<float>& values,
                         Half& half) {
  const uint32_t heads = layout_.num_kv_heads;
  if (values.size() != 1 && values.size() != heads) {
    return LayerError(layer, fmt::format("tensor '{}' holds {} values; expected 1, or {} for one "
                                         "per KV head",
                                         name, values.size(), heads));
  }
  for (const float value : values) {
    if (IsPlausibleKvScale(value)) continue;
    return LayerError(layer, fmt::format("tensor '{}' holds {}; a scale is a number from {} to {}",
                                         name, value, kKvScaleMin, kKvScaleMax));
  }
  std::vector<float> all = values;
  all.resize(heads, values[0]);
  if (!half.name.empty() && half.values != all) {
    return LayerError(layer,
                      fmt::format("tensors '{}' and '{}' give different scales", half.name, name));
  }
  half = {name, std::move(all)};
  return {};
}

Result<void> Reader::CheckComplete(const std::vector<uint32_t>& skip) const {
  for (uint32_t layer = 0; layer < layout_.num_layers; ++layer) {
    const Half& k = k_[layer];
    const Half& v = v_[layer];
    const bool skipped = std::find(skip.begin(), skip.end(), layer) != skip.end();
    if (k.name.empty() != v.name.empty()) {
      return LayerError(layer,
                        fmt::format("there is '{}' but no scale for {}; a layer needs both",
                                    k.name.empty() ? v.name : k.name, k.name.empty() ? "K" : "V"));
    }
    if (k.name.empty() && !skipped) {
      return LayerError(layer,
                        "the checkpoint has scales for other layers but none for this one; "
                        "calibrate the model again, or keep the layer out of FP8 with "
                        "--kv-cache-dtype-skip-layers");
    }
  }
  return {};
}

KvScaleSet Reader::Finish(bool fnuz) const {
  KvScaleSet set = KvScaleSet::Default(layout_);
  set.source = KvScaleSource::kCheckpoint;
  const float factor = fnuz ? kFnuzToOcpScale : 1.0f;
  for (uint32_t layer = 0; layer < layout_.num_layers; ++layer) {
    set.origins[layer] = {k_[layer].name, v_[layer].name};
    for (uint32_t head = 0; head < layout_.num_kv_heads && !k_[layer].name.empty(); ++head) {
      const size_t at = size_t{layer} * layout_.num_kv_heads + head;
      set.scales.k[at] = k_[layer].values[head] * factor;
      set.scales.v[at] = v_[layer].values[head] * factor;
    }
  }
  return set;
}

}  // namespace

std::optional<KvTensorName> ParseKvTensorName(std::string_view name) {
  constexpr std::string_view kLayers = "layers.";
  constexpr std::string_view kAttention = ".self_attn.";
  const size_t layers = name.find(kLayers);
  if (layers == std::string_view::npos) return std::nullopt;
  const char* number = name.data() + layers + kLayers.size();
  uint32_t layer = 0;
  const auto [end, error] = std::from_chars(number, name.data() + name.size(), layer);
  if (error != std::errc()) return std::nullopt;
  std::string_view rest = name.substr(static_cast<size_t>(end - name.data()));
  if (rest.substr(0, kAttention.size()) != kAttention) return std::nullopt;
  rest.remove_prefix(kAttention.size());
  for (const Suffix& suffix : kSuffixes) {
    if (rest == suffix.text) return KvTensorName{layer, suffix.kind};
  }
  return std::nullopt;
}

Result<std::optional<KvScaleSet>> ReadKvScales(Checkpoint& checkpoint, const KvLayout& layout,
                                               const std::vector<uint32_t>& skip, bool fnuz) {
  Reader reader(checkpoint, layout);
  for (const std::string& name : checkpoint.Names()) {
    const auto parsed = ParseKvTensorName(name);
    if (parsed) KVS_RETURN_IF_ERROR(reader.Take(name, *parsed));
  }
  std::optional<KvScaleSet> none;
  if (!reader.found()) return none;
  KVS_RETURN_IF_ERROR(reader.CheckComplete(skip));
  return std::optional(reader.Finish(fnuz));
}

}  // namespace kvs
