#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "model/checkpoint.h"
#include "model/json_fields.h"
#include "model/json_file.h"
#include "model/kv_scheme.h"
#include "model/model.h"
#include "model/registry.h"

namespace kvs {
namespace {

constexpr char kConfigFile[] = "config.json";
constexpr char kGenerationConfigFile[] = "generation_config.json";
constexpr uint32_t kVocabSizeMax = 1u << 24;
constexpr uint32_t kHiddenSizeMax = 1u << 16;
constexpr uint32_t kIntermediateSizeMax = 1u << 20;
constexpr uint32_t kLayersMax = 1024;
constexpr uint32_t kHeadsMax = 1024;
constexpr uint32_t kHeadDimMax = 512;
constexpr uint32_t kPositionsMax = 1u << 24;

void ReadArchitecture(JsonFields& fields, ModelConfig& config) {
  const Json* list = fields.Find("architectures");
  if (list != nullptr && list->is_array() && list->size() == 1 && list->front().is_string()) {
    config.architecture = list->front().get<std::string>();
  }
  if (FindArchitecture(config.architecture) == nullptr) {
    fields.Refuse("architectures", fmt::format("supported: {}", SupportedArchitectures()));
  }
}

void ReadShape(JsonFields& fields, ModelConfig& config) {
  config.vocab_size = fields.Uint("vocab_size", 1, kVocabSizeMax);
  config.hidden_size = fields.Uint("hidden_size", 1, kHiddenSizeMax);
  config.intermediate_size = fields.Uint("intermediate_size", 1, kIntermediateSizeMax);
  config.num_layers = fields.Uint("num_hidden_layers", 1, kLayersMax);
  config.num_heads = fields.Uint("num_attention_heads", 1, kHeadsMax);
  config.num_kv_heads = fields.Uint("num_key_value_heads", 1, config.num_heads, config.num_heads);
  if (config.num_heads % config.num_kv_heads != 0) {
    fields.Refuse("num_key_value_heads", fmt::format("a divisor of num_attention_heads ({}) is "
                                                     "supported",
                                                     config.num_heads));
  }
  if (!fields.Has("head_dim") && config.hidden_size % config.num_heads != 0) {
    fields.Refuse("head_dim", fmt::format("it is needed, as num_attention_heads ({}) does not "
                                          "divide hidden_size ({})",
                                          config.num_heads, config.hidden_size));
  }
  const uint32_t head_dim = config.hidden_size / config.num_heads;
  config.head_dim = fields.Uint("head_dim", 2, kHeadDimMax, head_dim);
  if (config.head_dim % 2 != 0 || config.head_dim < 2 || config.head_dim > kHeadDimMax) {
    fields.Refuse("head_dim", fmt::format("an even number from 2 to {} is supported (hidden_size / "
                                          "num_attention_heads is {})",
                                          kHeadDimMax, head_dim));
  }
  config.max_position_embeddings = fields.Uint("max_position_embeddings", 1, kPositionsMax);
  // Defaults from here on are those of LlamaConfig in Hugging Face Transformers.
  config.rms_norm_eps = static_cast<float>(fields.Number("rms_norm_eps", 1e-12, 0.1, 1e-6));
  config.tie_word_embeddings = fields.Bool("tie_word_embeddings", false);
}

// The scaling object, under its name since Transformers 5 or under the older one.
void ReadRope(JsonFields& fields, const std::string& where, ModelConfig& config) {
  constexpr double kThetaMax = 1e12;
  RopeConfig& rope = config.rope;
  rope.theta = fields.Number("rope_theta", 1.0, kThetaMax, 10000.0);
  const char* key = fields.Has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  const Json* object = fields.Find(key);
  if (object == nullptr) return;
  if (!object->is_object()) return fields.Refuse(key, "an object or null is expected");

  JsonFields scaling(*object, where + ": " + key);
  rope.theta = scaling.Number("rope_theta", 1.0, kThetaMax, rope.theta);
  const char* type_key = scaling.Has("rope_type") ? "rope_type" : "type";
  const std::string type = scaling.String(type_key, "default");
  if (type == "llama3") {
    rope.scaling = RopeConfig::Scaling::kLlama3;
    rope.factor = scaling.Number("factor", 1.0, 1e6);
    rope.low_freq_factor = scaling.Number("low_freq_factor", 1e-6, 1e6);
    rope.high_freq_factor = scaling.Number("high_freq_factor", 1e-6, 1e6);
    rope.original_max_position_embeddings =
        scaling.Uint("original_max_position_embeddings", 1, kPositionsMax);
    if (rope.high_freq_factor <= rope.low_freq_factor) {
      scaling.Refuse("high_freq_factor", "more than low_freq_factor is supported");
    }
  } else if (type != "default") {
    scaling.Refuse(type_key, "supported: default, llama3");
  }
  if (scaling.error()) fields.Fail(*scaling.error());
}

void RefuseUnsupported(JsonFields& fields, const ModelConfig& config) {
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    if (fields.Bool(key, false)) fields.Refuse(key, "only false is supported");
  }
  if (fields.String("hidden_act", "silu") != "silu") fields.Refuse("hidden_act", "supported: silu");
  const Json* quantization = fields.Find("quantization_config");
  if (quantization != nullptr && QuantizesMoreThanKv(*quantization)) {
    fields.Refuse("quantization_config", "only unquantized weights are supported");
  }
  if (fields.Number("partial_rotary_factor", 0.0, 1.0, 1.0) != 1.0) {
    fields.Refuse("partial_rotary_factor", "only 1.0 is supported");
  }
  if (fields.Has("sliding_window") && fields.Bool("use_sliding_window", true)) {
    const uint32_t window = fields.Uint("sliding_window", 1, UINT32_MAX);
    if (window < config.max_position_embeddings) {
      fields.Refuse("sliding_window", fmt::format("only null, or a window that covers "
                                                  "max_position_embeddings ({}), is supported",
                                                  config.max_position_embeddings));
    }
  }
}

void ReadDType(JsonFields& fields, const std::filesystem::path& model_dir, ModelConfig& config) {
  const char* key = fields.Has("torch_dtype") ? "torch_dtype" : "dtype";
  if (fields.Has(key)) {
    const std::string name = fields.String(key, "");
    for (const DType dtype : {DType::kBf16, DType::kF16, DType::kF32}) {
      config.checkpoint_dtype = dtype;
      if (name == ToString(dtype)) return;
    }
    return fields.Refuse(key, "supported: bfloat16, float16, float32");
  }
  if (fields.error()) return;  // no need to open the weights
  const auto checkpoint = Checkpoint::Open(model_dir);
  if (!checkpoint) {
    return fields.Fail(checkpoint.error().WithContext(fmt::format(
        "{}: torch_dtype is missing and cannot be taken from the weights", kConfigFile)));
  }
  const auto dtype = (*checkpoint)->FirstDType();
  if (!dtype) return fields.Fail(dtype.error());
  config.checkpoint_dtype = *dtype;
}

void ReadSpecialTokens(JsonFields& fields, ModelConfig& config) {
  const auto bos = fields.TokenIds("bos_token_id", config.vocab_size);
  if (!bos.empty() && !config.bos_token_id) config.bos_token_id = bos.front();
  for (const TokenId id : fields.TokenIds("eos_token_id", config.vocab_size)) {
    auto& known = config.eos_token_ids;
    if (std::find(known.begin(), known.end(), id) == known.end()) known.push_back(id);
  }
}

Result<void> ReadGenerationConfig(const std::filesystem::path& path, ModelConfig& config) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return {};  // the file is optional
  auto json = ReadJsonObject(path, JsonLimits{});
  if (!json) return tl::unexpected(json.error());
  JsonFields fields(*json, path.string());
  ReadSpecialTokens(fields, config);
  if (fields.error()) return tl::unexpected(*fields.error());
  return {};
}

}  // namespace

Result<ModelConfig> ReadModelConfig(const std::filesystem::path& model_dir) {
  const std::filesystem::path path = model_dir / kConfigFile;
  auto json = ReadJsonObject(path, JsonLimits{});
  if (!json) return tl::unexpected(json.error());
  JsonFields fields(*json, path.string());
  ModelConfig config;
  ReadArchitecture(fields, config);
  ReadShape(fields, config);
  ReadRope(fields, path.string(), config);
  RefuseUnsupported(fields, config);
  ReadSpecialTokens(fields, config);
  ReadDType(fields, model_dir, config);
  if (fields.error()) return tl::unexpected(*fields.error());
  auto kv_scheme = ReadKvScheme(*json, model_dir);
  if (!kv_scheme) return tl::unexpected(kv_scheme.error());
  config.kv_scheme = *std::move(kv_scheme);
  KVS_RETURN_IF_ERROR(ReadGenerationConfig(model_dir / kGenerationConfigFile, config));
  return config;
}

}  // namespace kvs
