#include "model/kv_scale_artifact.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <set>
#include <system_error>
#include <utility>
#include <vector>

#include "kvserve/float_bits.h"
#include "model/checkpoint.h"
#include "model/json_file.h"
#include "model/kv_scale_reader.h"
#include "model/safetensors.h"

namespace kvs {
namespace {

namespace fs = std::filesystem;
using OrderedJson = nlohmann::ordered_json;

constexpr char kConfig[] = "config.json";
constexpr char kSingleFileRenamed[] = "model-00001-of-00002.safetensors";
constexpr char kScaleShardOfSingle[] = "model-00002-of-00002.safetensors";
constexpr char kScaleShard[] = "model-kv-scales.safetensors";

tl::unexpected<Status> OsError(const std::string& what, const fs::path& path, int error) {
  return Error(Code::kOsError, fmt::format("cannot {} '{}': {}", what, path.string(),
                                           std::generic_category().message(error)));
}

// --- The values ---

float NextUp(float value, DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kF8E4M3:  // no scale is stored so
      return value;
    case DType::kBf16: {
      const float near = Bf16ToFloat(FloatToBf16(value));
      return near >= value ? near : Bf16ToFloat(static_cast<uint16_t>(FloatToBf16(value) + 1));
    }
    case DType::kF16: {
      const float near = F16ToFloat(FloatToF16(value));
      return near >= value ? near : F16ToFloat(static_cast<uint16_t>(FloatToF16(value) + 1));
    }
  }
  return value;
}

void AppendAs(float value, DType dtype, std::string& bytes) {
  const uint16_t half = dtype == DType::kBf16 ? FloatToBf16(value) : FloatToF16(value);
  const void* data = dtype == DType::kF32 ? static_cast<const void*>(&value) : &half;
  bytes.append(static_cast<const char*>(data), SizeOf(dtype));
}

const char* SafetensorsName(DType dtype) {
  return dtype == DType::kBf16 ? "BF16" : dtype == DType::kF16 ? "F16" : "F32";
}

// The scale shard's tensors by name, and its bytes.
struct Shard {
  std::vector<std::string> names;
  std::string bytes;
  uint64_t tensor_bytes = 0;
};

Shard MakeScaleShard(const KvScaleArtifact& artifact) {
  const uint32_t heads = artifact.layout.num_kv_heads;
  const uint32_t count = artifact.per_head ? heads : 1;
  const Json shape = artifact.per_head ? Json{heads, 1, 1} : Json{1};
  OrderedJson header = {{"__metadata__", {{"format", "pt"}}}};
  std::string data;
  Shard shard;
  for (uint32_t layer = 0; layer < artifact.layout.num_layers; ++layer) {
    for (const bool is_v : {false, true}) {
      const auto& scales = is_v ? artifact.scales.v : artifact.scales.k;
      const std::string name =
          fmt::format("model.layers.{}.self_attn.{}_scale", layer, is_v ? "v" : "k");
      const size_t begin = data.size();
      for (uint32_t head = 0; head < count; ++head) {
        AppendAs(scales[size_t{layer} * heads + head], artifact.dtype, data);
      }
      header[name] = {{"dtype", SafetensorsName(artifact.dtype)},
                      {"shape", shape},
                      {"data_offsets", {begin, data.size()}}};
      shard.names.push_back(name);
    }
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data begins aligned
  const uint64_t length = text.size();
  shard.bytes.assign(reinterpret_cast<const char*>(&length), sizeof length);  // little-endian hosts
  shard.bytes += text + data;
  shard.tensor_bytes = data.size();
  return shard;
}

// --- The files ---

Result<void> SyncPath(const fs::path& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return OsError("open", path, errno);
  const int failed = fsync(fd) == 0 ? 0 : errno;
  close(fd);
  if (failed != 0) return OsError("sync", path, failed);
  return {};
}

Result<void> WriteSynced(const fs::path& path, const std::string& content) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << content;
  file.close();
  if (!file) return OsError("write", path, errno);
  return SyncPath(path);
}

Result<void> LinkOrCopy(const fs::path& from, const fs::path& to) {
  std::error_code error;
  const fs::path real = fs::canonical(from, error);  // a hub's cache links to blobs
  if (error) return OsError("read", from, error.value());
  fs::create_hard_link(real, to, error);
  if (!error) return {};
  fs::copy_file(real, to, fs::copy_options::overwrite_existing, error);
  if (error) return OsError(fmt::format("copy '{}' to", real.string()), to, error.value());
  return SyncPath(to);
}

// What of the model goes where.
struct Plan {
  std::vector<std::pair<fs::path, std::string>> files;  // from, name in the artifact
  std::map<std::string, std::string> weight_map;        // tensor -> name in the artifact
  uint64_t tensor_bytes = 0;
  std::string scale_shard;
};

Result<void> AddWeights(const fs::path& path, const std::string& name, Plan& plan) {
  const auto file = SafetensorsFile::Open(path);
  if (!file) return tl::unexpected(file.error());
  const auto is_scale = [](const auto& entry) {
    return ParseKvTensorName(entry.first).has_value();
  };
  const auto& tensors = file->tensors();
  const auto num_scales = std::count_if(tensors.begin(), tensors.end(), is_scale);
  if (num_scales > 0 && static_cast<size_t>(num_scales) == tensors.size()) return {};  // replaced
  if (num_scales > 0) {
    return Error(Code::kDataError,
                 fmt::format("{}: holds KV scales between the weights; calibrate the model they "
                             "were made from instead",
                             path.string()));
  }
  for (const auto& [tensor, stored] : tensors) {
    plan.weight_map[tensor] = name;
    plan.tensor_bytes += stored.end - stored.begin;
  }
  plan.files.emplace_back(path, name);
  return {};
}

// The names of the weight files: the index's shards, or the single file.
Result<std::set<std::string>> WeightFiles(const fs::path& model_dir) {
  std::error_code ignored;
  if (fs::exists(model_dir / kSingleFile, ignored)) return std::set<std::string>{kSingleFile};
  const auto index = ReadJsonObject(model_dir / kIndexFile, {.max_bytes = uint64_t{64} << 20});
  if (!index) return tl::unexpected(index.error());
  std::set<std::string> names;
  const auto map = index->find("weight_map");
  if (map == index->end() || !map->is_object()) {
    return Error(Code::kDataError,
                 fmt::format("{}: weight_map is missing", (model_dir / kIndexFile).string()));
  }
  for (const auto& [tensor, shard] : map->items()) {
    if (shard.is_string()) names.insert(shard.get<std::string>());
  }
  return names;
}

Result<Plan> MakePlan(const fs::path& model_dir) {
  const auto weights = WeightFiles(model_dir);
  if (!weights) return tl::unexpected(weights.error());
  const bool single = weights->count(kSingleFile) != 0;
  Plan plan;
  plan.scale_shard = single ? kScaleShardOfSingle : kScaleShard;
  for (const std::string& name : *weights) {
    KVS_RETURN_IF_ERROR(AddWeights(model_dir / name, single ? kSingleFileRenamed : name, plan));
  }
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(model_dir, error)) {
    const std::string name = entry.path().filename().string();
    const bool written_here = name == kConfig || name == kIndexFile || weights->count(name) != 0;
    if (!written_here && entry.is_regular_file()) plan.files.emplace_back(entry.path(), name);
  }
  if (error) return OsError("list", model_dir, error.value());
  return plan;
}

OrderedJson SchemeOf(bool per_head, const std::string& observer) {
  return {{"num_bits", 8},
          {"type", "float"},
          {"strategy", per_head ? "attn_head" : "tensor"},
          {"dynamic", false},
          {"symmetric", true},
          {"observer", observer},
          {"observer_kwargs", OrderedJson::object()},
          {"group_size", nullptr},
          {"block_structure", nullptr},
          {"actorder", nullptr},
          {"scale_dtype", nullptr},
          {"zp_dtype", nullptr}};
}

// config.json with the scheme added to its quantization, or as the only one.
Result<std::string> ConfigWithScheme(const fs::path& model_dir, bool per_head,
                                     const std::string& observer) {
  const fs::path path = model_dir / kConfig;
  const auto checked = ReadJsonObject(path, JsonLimits{});  // bounds and duplicates
  if (!checked) return tl::unexpected(checked.error());
  std::ifstream file(path);
  OrderedJson config = OrderedJson::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) return OsError("read", path, EIO);
  OrderedJson& quantization = config["quantization_config"];
  if (quantization.is_null()) {
    quantization = {{"quant_method", "compressed-tensors"},
                    {"config_groups", OrderedJson::object()},
                    {"format", "dense"},
                    {"quantization_status", "compressed"},
                    {"global_compression_ratio", nullptr},
                    {"ignore", OrderedJson::array()}};
  }
  const std::string method = quantization.is_object() ? quantization.value("quant_method", "") : "";
  if (method != "compressed-tensors" && method != "modelopt") {
    return Error(Code::kDataError,
                 fmt::format("{}: quantization_config.quant_method is '{}', which has no place for "
                             "KV scales; supported: compressed-tensors, modelopt, none",
                             path.string(), method));
  }
  quantization["kv_cache_scheme"] = SchemeOf(per_head, observer);
  return config.dump(2) + "\n";
}

// Absolute, without a '/' at its end.
fs::path WithoutSlash(const fs::path& dir) {
  const fs::path normal = fs::absolute(dir).lexically_normal();
  return normal.has_filename() ? normal : normal.parent_path();
}

// Empties the partial directory.
Result<void> Clear(const fs::path& dir) {
  std::error_code error;
  fs::remove_all(dir, error);
  if (!error) fs::create_directories(dir, error);
  if (error) return OsError("create", dir, error.value());
  return {};
}

}  // namespace

KvScales RoundUpScales(const KvScales& scales, DType dtype) {
  KvScales rounded = scales;
  for (std::vector<float>* values : {&rounded.k, &rounded.v}) {
    for (float& value : *values) value = NextUp(value, dtype);
  }
  return rounded;
}

fs::path PartialDirOf(const fs::path& output_dir) { return WithoutSlash(output_dir) += ".partial"; }

Result<void> CheckArtifact(const fs::path& model_dir, const fs::path& output_dir) {
  std::error_code ignored;
  if (fs::exists(output_dir, ignored) && !fs::is_empty(output_dir, ignored)) {
    return Error(
        Code::kInvalidArgument,
        fmt::format("the output directory '{}' is there already; remove it or name another",
                    output_dir.string()),
        "--output-dir");
  }
  const auto plan = MakePlan(model_dir);
  if (!plan) return tl::unexpected(plan.error());
  const auto config = ConfigWithScheme(model_dir, false, "");
  if (!config) return tl::unexpected(config.error());
  const fs::path parent = PartialDirOf(output_dir).parent_path();
  std::error_code error;
  fs::create_directories(parent, error);
  if (error) return OsError("create", parent, error.value());
  return {};
}

Result<void> WriteKvScaleArtifact(const KvScaleArtifact& artifact) {
  KVS_RETURN_IF_ERROR(CheckArtifact(artifact.model_dir, artifact.output_dir));
  auto plan = MakePlan(artifact.model_dir);
  if (!plan) return tl::unexpected(plan.error());
  const auto config = ConfigWithScheme(artifact.model_dir, artifact.per_head, artifact.observer);
  if (!config) return tl::unexpected(config.error());
  const Shard shard = MakeScaleShard(artifact);
  for (const std::string& name : shard.names) plan->weight_map[name] = plan->scale_shard;
  const OrderedJson index = {
      {"metadata", {{"total_size", plan->tensor_bytes + shard.tensor_bytes}}},
      {"weight_map", plan->weight_map}};

  const fs::path partial = PartialDirOf(artifact.output_dir);
  KVS_RETURN_IF_ERROR(Clear(partial));
  for (const auto& [from, name] : plan->files) {
    KVS_RETURN_IF_ERROR(LinkOrCopy(from, partial / name));
  }
  KVS_RETURN_IF_ERROR(WriteSynced(partial / plan->scale_shard, shard.bytes));
  KVS_RETURN_IF_ERROR(WriteSynced(partial / kIndexFile, index.dump(2) + "\n"));
  KVS_RETURN_IF_ERROR(WriteSynced(partial / kConfig, *config));
  KVS_RETURN_IF_ERROR(SyncPath(partial));
  const fs::path output = WithoutSlash(artifact.output_dir);
  if (rename(partial.c_str(), output.c_str()) != 0) {
    return OsError(fmt::format("rename '{}' to", partial.string()), output, errno);
  }
  return SyncPath(output.parent_path());
}

}  // namespace kvs
