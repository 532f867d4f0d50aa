#include "model/kv_scheme.h"

#include <fmt/format.h>

#include <string>
#include <system_error>
#include <utility>

namespace kvs {
namespace {

constexpr char kScheme[] = "quantization_config.kv_cache_scheme";

// ModelOpt's names of algorithms.
KvQuantScheme SchemeOfAlgorithm(const std::string& name, std::string where) {
  KvQuantScheme scheme;
  scheme.where = std::move(where);
  if (name != "FP8")
    scheme.unsupported = fmt::format("is '{}'; supported: FP8", name.substr(0, 80));
  return scheme;
}

// Why the fields of a compressed-tensors scheme cannot be followed; empty when they can.
std::string ProblemOf(const Json& object) {
  const auto is = [&](const char* key, const Json& wanted) {
    const Json* value = FindMember(object, key);
    return value == nullptr || *value == wanted;
  };
  const auto problem = [&](const char* key, const char* supported) {
    return fmt::format(".{} is {}; supported: {}", key, Excerpt(*FindMember(object, key)),
                       supported);
  };
  if (!is("num_bits", 8)) return problem("num_bits", "8");
  if (!is("type", "float")) return problem("type", "\"float\"");
  if (!is("dynamic", false)) return problem("dynamic", "false");
  if (!is("symmetric", true)) return problem("symmetric", "true");
  if (!is("strategy", "tensor") && !is("strategy", "attn_head")) {
    return problem("strategy", "\"tensor\", \"attn_head\"");
  }
  return {};
}

Result<KvQuantScheme> SchemeOfConfig(const Json& value, const std::string& path) {
  const std::string where = fmt::format("{}: {}", path, kScheme);
  if (value.is_string()) return SchemeOfAlgorithm(value.get<std::string>(), where);
  if (!value.is_object()) {
    return Error(Code::kDataError, fmt::format("{} is {}; expected null, an object, or the name of "
                                               "an algorithm",
                                               where, Excerpt(value)));
  }
  KvQuantScheme scheme;
  scheme.where = where;
  scheme.unsupported = ProblemOf(value);
  const Json* strategy = FindMember(value, "strategy");
  scheme.per_head = strategy != nullptr && *strategy == "attn_head";
  const Json* dtype = FindMember(value, "dtype");
  scheme.fnuz = dtype != nullptr && *dtype == "float8_e4m3fnuz";
  return scheme;
}

}  // namespace

Result<std::optional<KvQuantScheme>> ReadKvScheme(const Json& config,
                                                  const std::filesystem::path& model_dir) {
  std::optional<KvQuantScheme> none;
  if (const Json* quantization = FindMember(config, "quantization_config")) {
    if (const Json* value = FindMember(*quantization, "kv_cache_scheme")) {
      auto scheme = SchemeOfConfig(*value, (model_dir / "config.json").string());
      if (!scheme) return tl::unexpected(scheme.error());
      return std::optional(*std::move(scheme));
    }
  }
  const std::filesystem::path path = model_dir / kHfQuantConfig;
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return none;
  const auto json = ReadJsonObject(path, JsonLimits{});
  if (!json) return tl::unexpected(json.error());
  const Json* quantization = FindMember(*json, "quantization");
  if (quantization == nullptr) return none;
  const Json* algorithm = FindMember(*quantization, "kv_cache_quant_algo");
  if (algorithm == nullptr) return none;
  const std::string where = fmt::format("{}: quantization.kv_cache_quant_algo", path.string());
  if (!algorithm->is_string()) {
    return Error(Code::kDataError,
                 fmt::format("{} is {}; expected null or the name of an algorithm", where,
                             Excerpt(*algorithm)));
  }
  return std::optional(SchemeOfAlgorithm(algorithm->get<std::string>(), where));
}

bool QuantizesMoreThanKv(const Json& quantization_config) {
  const Json* method = FindMember(quantization_config, "quant_method");
  const Json* scheme = FindMember(quantization_config, "kv_cache_scheme");
  if (method == nullptr || scheme == nullptr) return true;
  if (*method == "compressed-tensors") {
    const Json* groups = FindMember(quantization_config, "config_groups");
    return groups != nullptr && !groups->empty();
  }
  return *method != "modelopt" || FindMember(quantization_config, "quant_algo") != nullptr;
}

}  // namespace kvs
