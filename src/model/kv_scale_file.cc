// ReadKvScaleFile: the legacy JSON of one scale per layer.
#include <fmt/format.h>

#include <string>

#include "model/json_file.h"
#include "model/kv_scale_reader.h"

namespace kvs {
namespace {

tl::unexpected<Status> FileError(const std::string& path, const std::string& what) {
  return Error(Code::kDataError, fmt::format("{}: {}", path, what), "--quantization-param-path");
}

// The factors of the only rank.
Result<const Json*> FactorsOf(const Json& file, const std::string& path) {
  const Json* cache = FindMember(file, "kv_cache");
  const Json* ranks = cache == nullptr ? nullptr : FindMember(*cache, "scaling_factor");
  if (ranks == nullptr || !ranks->is_object()) {
    return FileError(path, "kv_cache.scaling_factor is missing or not an object");
  }
  if (ranks->size() != 1 || !ranks->contains("0")) {
    return FileError(path, fmt::format("kv_cache.scaling_factor has {} ranks; expected rank \"0\" "
                                       "alone (one device)",
                                       ranks->size()));
  }
  const Json& factors = (*ranks)["0"];
  if (!factors.is_object()) return FileError(path, "kv_cache.scaling_factor.0 is not an object");
  return &factors;
}

}  // namespace

Result<KvScaleSet> ReadKvScaleFile(const std::filesystem::path& file_path, const KvLayout& layout) {
  const auto file = ReadJsonObject(file_path, JsonLimits{});
  if (!file) return tl::unexpected(file.error());
  const std::string path = file_path.string();
  const auto factors = FactorsOf(*file, path);
  if (!factors) return tl::unexpected(factors.error());
  const Json* dtype = FindMember((*file)["kv_cache"], "dtype");
  const bool fnuz = dtype != nullptr && *dtype == "float8_e4m3fnuz";
  if (dtype != nullptr && !fnuz && *dtype != "float8_e4m3fn") {
    return FileError(path, fmt::format("kv_cache.dtype is {}; supported: \"float8_e4m3fn\", "
                                       "\"float8_e4m3fnuz\"",
                                       Excerpt(*dtype)));
  }
  if ((*factors)->size() > layout.num_layers) {
    return FileError(path, fmt::format("{} layers have a scale; the model has {}",
                                       (*factors)->size(), layout.num_layers));
  }
  KvScaleSet set = KvScaleSet::Default(layout);
  set.source = KvScaleSource::kFile;
  for (uint32_t layer = 0; layer < layout.num_layers; ++layer) {
    const std::string key = std::to_string(layer);
    const Json* value = FindMember(**factors, key.c_str());
    if (value == nullptr) return FileError(path, fmt::format("layer {}: no scale", layer));
    const float scale = value->is_number() ? value->get<float>() : -1.0f;
    if (!IsPlausibleKvScale(scale)) {
      return FileError(path, fmt::format("layer {}: the scale is {}; a scale is a number from {} "
                                         "to {}",
                                         layer, Excerpt(*value), kKvScaleMin, kKvScaleMax));
    }
    const std::string name = fmt::format("{}: {}", file_path.filename().string(), key);
    set.origins[layer] = {name, name};
    for (uint32_t head = 0; head < layout.num_kv_heads; ++head) {
      const size_t at = size_t{layer} * layout.num_kv_heads + head;
      set.scales.k[at] = set.scales.v[at] = fnuz ? scale * kFnuzToOcpScale : scale;
    }
  }
  return set;
}

}  // namespace kvs
