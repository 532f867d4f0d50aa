#include "doctor/model_checks.h"

#include <fmt/format.h>

#include <system_error>

#include "config/environment.h"
#include "config/kv_pool.h"
#include "hub/model_source.h"
#include "model/kv_scale_reader.h"
#include "model/model.h"
#include "template/chat_template.h"

namespace kvs {
namespace {

constexpr char kProbeText[] = "The quick brown fox; 12345 + \u00e9\u4e2d\u6587\n\tjumps.";
constexpr char kOtherModel[] = "fetch the model again, or name another";

uint64_t BytesOf(const std::filesystem::path& dir) {
  uint64_t bytes = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(dir, error)) {
    if (entry.path().extension() != ".safetensors") continue;
    const uint64_t size = entry.file_size(error);
    if (!error) bytes += size;
  }
  return bytes;
}

Check CheckFiles(CheckedModel& model) {
  const char* name = "model files";
  auto config = ReadModelConfig(model.dir);
  if (!config) return Fail(name, config.error().message(), kOtherModel);
  model.config = *std::move(config);
  auto weights = Checkpoint::Open(model.dir);
  if (!weights) return Fail(name, weights.error().message(), kOtherModel);
  model.weights = *std::move(weights);
  model.weight_bytes = BytesOf(model.dir);
  return Ok(name, fmt::format("{}: {}, {} layers, {} tensors, {} bytes", model.dir.string(),
                              model.config->architecture, model.config->num_layers,
                              model.weights->Names().size(), model.weight_bytes));
}

Check CheckTokenizer(CheckedModel& model) {
  const char* name = "tokenizer";
  auto tokenizer = Tokenizer::Load(model.dir);
  if (!tokenizer) return Fail(name, tokenizer.error().message(), kOtherModel);
  const auto ids = (*tokenizer)->Encode(kProbeText, {.add_special_tokens = false});
  if (!ids) return Fail(name, ids.error().message(), kOtherModel);
  const std::string back = (*tokenizer)->Decode(*ids, true);
  model.tokenizer = *std::move(tokenizer);
  const uint32_t size = model.tokenizer->vocab_size();
  if (back != kProbeText) {
    return Warn(name, fmt::format("{} tokens; text does not come back the same: '{}'", size, back),
                "normal for a tokenizer that normalizes text or lacks characters; else fetch it "
                "again");
  }
  if (model.config && size > model.config->vocab_size) {
    return Warn(name,
                fmt::format("{} tokens, but the model has {}: text may become tokens that it lacks",
                            size, model.config->vocab_size),
                "use the tokenizer that belongs to the model");
  }
  return Ok(name, fmt::format("{} tokens, text comes back the same", size));
}

Check CheckTemplate(const CheckedModel& model) {
  const char* name = "chat template";
  const auto loaded = ChatTemplate::Load(model.dir, "");
  if (!loaded) {
    return Warn(name, loaded.error().message(),
                "give one with --chat-template, or use /v1/completions alone");
  }
  if (*loaded == nullptr) {
    return Warn(name, "the model has none, so /v1/chat/completions is refused",
                "give one with --chat-template, or use /v1/completions alone");
  }
  return Ok(name, (*loaded)->origin());
}

Check CheckScales(const CheckedModel& model) {
  const char* name = "KV scales";
  const ModelConfig& config = *model.config;
  const KvLayout layout = LayoutOf(config, 16, KvCacheDType::kF8E4M3);
  if (config.kv_scheme && !config.kv_scheme->unsupported.empty()) {
    return Fail(
        name, config.kv_scheme->where + ": " + config.kv_scheme->unsupported,
        "serve with --kv-cache-dtype bfloat16, or give scales by --quantization-param-path");
  }
  const bool fnuz = config.kv_scheme && config.kv_scheme->fnuz;
  const auto scales = ReadKvScales(*model.weights, layout, {}, fnuz);
  if (!scales) {
    return Fail(name, scales.error().message(),
                "calibrate the model again: kvserve calibrate --dataset FILE --output-dir DIR");
  }
  if (!*scales) {
    return Warn(name, "the checkpoint has none: an FP8 KV cache would use 1.0",
                "kvserve calibrate --dataset FILE --output-dir DIR, or --calculate-kv-scales");
  }
  return Ok(name,
            fmt::format("{} layers, one {}", config.num_layers,
                        (*scales)->IsPerHead(config.num_kv_heads) ? "per KV head" : "per layer"));
}

}  // namespace

CheckedModel CheckModel(const std::string& model, const std::string& revision) {
  CheckedModel checked;
  auto source = ModelSource::Open(model, revision, ModelFiles::kDescription, ProcessEnvironment());
  Result<void> fetched;
  if (source) fetched = source->FetchWeights();
  if (!source || !fetched) {
    checked.checks.push_back(
        Fail("model files", source ? fetched.error().message() : source.error().message(),
             "name a directory with config.json, tokenizer.json and safetensors, or org/name"));
    return checked;
  }
  checked.dir = source->dir();
  checked.checks.push_back(CheckFiles(checked));
  checked.checks.push_back(CheckTokenizer(checked));
  checked.checks.push_back(CheckTemplate(checked));
  if (checked.config && checked.weights != nullptr) {
    checked.checks.push_back(CheckScales(checked));
  }
  return checked;
}

}  // namespace kvs
