#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "base/log.h"
#include "model/checkpoint.h"
#include "model/fp8_weights.h"
#include "model/json_fields.h"
#include "model/json_file.h"
#include "model/kv_scheme.h"
#include "model/model.h"
#include "model/read_generation_config.h"
#include "model/read_rope.h"
#include "model/registry.h"

namespace kvs {
namespace {

constexpr char kConfigFile[] = "config.json";
constexpr uint32_t kVocabSizeMax = 1u << 24;
constexpr uint32_t kHiddenSizeMax = 1u << 16;
constexpr uint32_t kIntermediateSizeMax = 1u << 20;
constexpr uint32_t kLayersMax = 1024;
constexpr uint32_t kHeadsMax = 1024;
constexpr uint32_t kHeadDimMax = 512;

// Null, and refused, when kvserve does not know it.
const Architecture* ReadArchitecture(JsonFields& fields, ModelConfig& config) {
  const Json* list = fields.Find("architectures");
  if (list != nullptr && list->is_array() && list->size() == 1 && list->front().is_string()) {
    config.architecture = list->front().get<std::string>();
  }
  const Architecture* architecture = FindArchitecture(config.architecture);
  if (architecture == nullptr) {
    fields.Refuse("architectures", fmt::format("supported: {}", SupportedArchitectures()));
  }
  return architecture;
}

void ReadShape(JsonFields& fields, const Architecture& architecture, ModelConfig& config) {
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
  const bool divides = config.hidden_size % config.num_heads == 0;
  if (!fields.Has("head_dim") && architecture.default_head_dim == 0 && !divides) {
    fields.Refuse("head_dim", fmt::format("it is needed, as num_attention_heads ({}) does not "
                                          "divide hidden_size ({})",
                                          config.num_heads, config.hidden_size));
  }
  const uint32_t head_dim = architecture.default_head_dim != 0
                                ? architecture.default_head_dim
                                : config.hidden_size / config.num_heads;
  config.head_dim = fields.Uint("head_dim", 2, kHeadDimMax, head_dim);
  if (config.head_dim % 2 != 0 || config.head_dim < 2 || config.head_dim > kHeadDimMax) {
    fields.Refuse("head_dim", fmt::format("an even number from 2 to {} is supported (hidden_size / "
                                          "num_attention_heads is {})",
                                          kHeadDimMax, head_dim));
  }
  config.max_position_embeddings = fields.Uint("max_position_embeddings", 1, kPositionsMax);
  config.rms_norm_eps = static_cast<float>(
      fields.Number("rms_norm_eps", 1e-12, 0.1, architecture.default_rms_norm_eps));
  config.tie_word_embeddings = fields.Bool("tie_word_embeddings", false);
}

// A field of some relative of these networks that would change the numbers, and the one value that
// does not. Null is always one.
struct FixedField {
  const char* key;
  const char* only;  // JSON
};
constexpr FixedField kFixedFields[] = {
    {"add_cross_attention", "false"},
    {"attention_bias", "false"},
    {"attention_chunk_size", "null"},
    {"attention_multiplier", "null"},
    {"attn_logit_softcapping", "null"},
    {"clip_qkv", "null"},
    {"embedding_multiplier", "1.0"},
    {"final_logit_softcapping", "null"},
    {"first_k_dense_replace", "0"},
    {"is_encoder_decoder", "false"},
    {"kv_lora_rank", "null"},
    {"logit_scale", "null"},
    {"logits_scaling", "1.0"},
    {"mlp_bias", "false"},
    {"n_shared_experts", "0"},
    {"no_rope_layers", "null"},
    {"partial_rotary_factor", "1.0"},
    {"qk_layernorm", "false"},
    {"query_pre_attn_scalar", "null"},
    {"residual_multiplier", "1.0"},
    {"rope_local_base_freq", "null"},
    {"routed_scaling_factor", "1.0"},
    {"shared_expert_intermediate_size", "0"},
    {"use_parallel_residual", "false"},
};

// Fields that say nothing about the network's numbers.
constexpr const char* kHarmlessFields[] = {"_attn_implementation",
                                           "_name_or_path",
                                           "attention_dropout",
                                           "auto_map",
                                           "dtype",
                                           "embd_pdrop",
                                           "head_dim",
                                           "hidden_dropout",
                                           "initializer_range",
                                           "max_window_layers",
                                           "mlp_only_layers",
                                           "model_type",
                                           "output_attentions",
                                           "output_hidden_states",
                                           "output_router_logits",
                                           "pad_token_id",
                                           "pretraining_tp",
                                           "quantization_config",
                                           "resid_pdrop",
                                           "router_aux_loss_coef",
                                           "router_jitter_noise",
                                           "rope_scaling",
                                           "sliding_window",
                                           "torch_dtype",
                                           "transformers_version",
                                           "use_cache",
                                           "use_sliding_window"};

void RefuseUnsupported(JsonFields& fields) {
  if (fields.String("hidden_act", "silu") != "silu") fields.Refuse("hidden_act", "supported: silu");
  for (const FixedField& field : kFixedFields) {
    const Json* value = fields.Find(field.key);
    if (value != nullptr && *value != Json::parse(field.only)) {
      fields.Refuse(field.key, fmt::format("only {} is supported", field.only));
    }
  }
}

void WarnOfUnknown(JsonFields& fields, const std::string& where) {
  for (const char* key : kHarmlessFields) fields.Find(key);
  const std::vector<std::string> keys = fields.UnaskedKeys();
  if (keys.empty()) return;
  LOG_WARNING("{}: fields that are not known here and have no effect: {}", where,
              fmt::join(keys, ", "));
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

}  // namespace

Result<ModelConfig> ReadModelConfig(const std::filesystem::path& model_dir,
                                    const ModelOptions& asked) {
  const std::filesystem::path path = model_dir / kConfigFile;
  auto json = ReadJsonObject(path, JsonLimits{});
  if (!json) return tl::unexpected(json.error());
  JsonFields fields(*json, path.string());
  ModelConfig config;
  const Architecture* architecture = ReadArchitecture(fields, config);
  if (architecture == nullptr) return tl::unexpected(*fields.error());
  ReadShape(fields, *architecture, config);
  ReadRope(fields, path.string(), architecture->default_rope_theta, config);
  RefuseUnsupported(fields);
  architecture->read_config(fields, config);
  ReadSpecialTokens(fields, config);
  ReadDType(fields, model_dir, config);
  if (fields.error()) return tl::unexpected(*fields.error());
  const auto fp8_linear = ReadWeightQuantization(*json, model_dir);
  if (!fp8_linear) return tl::unexpected(fp8_linear.error());
  config.fp8_linear = *fp8_linear;
  auto kv_scheme = ReadKvScheme(*json, model_dir);
  if (!kv_scheme) return tl::unexpected(kv_scheme.error());
  config.kv_scheme = *std::move(kv_scheme);
  WarnOfUnknown(fields, path.string());
  KVS_RETURN_IF_ERROR(ReadGenerationConfig(model_dir, asked, config));
  return config;
}

}  // namespace kvs
