#include "model/read_generation_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <system_error>

namespace kvs {
namespace {

constexpr char kGenerationConfigFile[] = "generation_config.json";
constexpr char kConfigFlag[] = "--generation-config";
constexpr char kOverrideFlag[] = "--override-generation-config";

// A field that is there replaces what was known.
void ReadGenerationDefaults(JsonFields& fields, GenerationDefaults& defaults) {
  const auto number = [&](const char* key, double low, double high, std::optional<float>& to) {
    if (fields.Has(key)) to = static_cast<float>(fields.Number(key, low, high));
  };
  number("temperature", 0.0, 100.0, defaults.temperature);
  number("top_p", 1e-6, 1.0, defaults.top_p);
  number("min_p", 0.0, 1.0, defaults.min_p);
  number("repetition_penalty", 1e-3, 100.0, defaults.repetition_penalty);
  if (fields.Has("top_k")) {
    defaults.top_k = static_cast<int32_t>(fields.Number("top_k", -1.0, INT32_MAX));
  }
  if (fields.Has("max_new_tokens")) {
    defaults.max_new_tokens = fields.Uint("max_new_tokens", 1, UINT32_MAX);
  }
}

Result<void> ReadFile(const std::filesystem::path& path, bool with_defaults, ModelConfig& config) {
  auto json = ReadJsonObject(path, JsonLimits{});
  if (!json) return tl::unexpected(json.error());
  JsonFields fields(*json, path.string());
  ReadSpecialTokens(fields, config);
  if (with_defaults) ReadGenerationDefaults(fields, config.generation);
  if (fields.error()) return tl::unexpected(*fields.error());
  return {};
}

// In a flag, unlike in a file, a field that means nothing is a mistake.
Result<void> ApplyOverrides(const std::string& text, GenerationDefaults& defaults) {
  auto json = ParseJsonObject(text, JsonLimits{}, kOverrideFlag);
  if (!json) return Error(Code::kInvalidArgument, json.error().message(), kOverrideFlag);
  JsonFields fields(*json, kOverrideFlag);
  ReadGenerationDefaults(fields, defaults);
  if (fields.error()) {
    return Error(Code::kInvalidArgument, fields.error()->message(), kOverrideFlag);
  }
  const std::vector<std::string> unknown = fields.UnaskedKeys();
  if (unknown.empty()) return {};
  return Error(Code::kInvalidArgument,
               fmt::format("{}: unknown field '{}'; expected temperature, top_p, min_p, top_k, "
                           "repetition_penalty or max_new_tokens",
                           kOverrideFlag, unknown.front().substr(0, 200)),
               kOverrideFlag);
}

}  // namespace

void ReadSpecialTokens(JsonFields& fields, ModelConfig& config) {
  const auto bos = fields.TokenIds("bos_token_id", config.vocab_size);
  if (!bos.empty() && !config.bos_token_id) config.bos_token_id = bos.front();
  for (const TokenId id : fields.TokenIds("eos_token_id", config.vocab_size)) {
    auto& known = config.eos_token_ids;
    if (std::find(known.begin(), known.end(), id) == known.end()) known.push_back(id);
  }
}

Result<void> ReadGenerationConfig(const std::filesystem::path& model_dir, const ModelOptions& asked,
                                  ModelConfig& config) {
  const bool of_model = asked.generation_config == "auto" || asked.generation_config == "vllm";
  const std::filesystem::path dir =
      of_model ? model_dir : std::filesystem::path(asked.generation_config);
  const std::filesystem::path path = dir / kGenerationConfigFile;
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored)) {
    KVS_RETURN_IF_ERROR(ReadFile(path, asked.generation_config != "vllm", config));
  } else if (!of_model) {
    return Error(Code::kNotFound,
                 fmt::format("{}: there is no '{}'; expected auto, vllm, or a directory with that "
                             "file",
                             kConfigFlag, path.string()),
                 kConfigFlag);
  }
  if (asked.override_generation_config.empty()) return {};
  return ApplyOverrides(asked.override_generation_config, config.generation);
}

}  // namespace kvs
