// Model: weights, KV cache and buffers of one network on one backend; Forward runs one step.
//
// Not thread-safe: Load on the main thread, then the engine thread alone. No allocation in Forward.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "kvserve/backend.h"
#include "kvserve/kv_layout.h"
#include "kvserve/model_config.h"
#include "kvserve/options.h"
#include "kvserve/step.h"

namespace kvs {

struct ModelLoadOptions {
  std::filesystem::path model_dir;
  LoadFormat load_format = LoadFormat::kAuto;
  DType dtype = DType::kBf16;  // of weights in memory
  uint64_t seed = 0;           // dummy weights
  KvCacheDType kv_dtype = KvCacheDType::kBf16;
  std::vector<uint32_t> kv_bf16_layers;  // kept in BF16 where kv_dtype is FP8; ascending
  uint32_t num_blocks = 0;               // usable blocks; the null block comes on top
  bool calculate_kv_scales = false;      // from random tokens, before Load returns; FP8 only
  std::filesystem::path kv_scale_file;   // --quantization-param-path; empty: the checkpoint's
  bool require_kv_scales = false;        // no scales for an FP8 cache is an error
  bool kv_scales_per_head = false;       // those from random tokens
  bool kv_scales_later = false;          // all are 1; the caller is going to set them
  StepLimits limits;
  std::function<void(uint64_t bytes_done, uint64_t bytes_total)> progress;  // may be empty
};

// The engine sees a model through this, so that tests can run without weights.
class StepRunner {
 public:
  virtual ~StepRunner() = default;
  // Whether the calls below return while the device is still at work, so that a step can be planned
  // before the last one's tokens are known; plans may then have a sampled_row.
  virtual bool is_pipelined() const { return false; }
  // Computes the plan's tokens: writes their K/V, returns logits [num_logits_rows, vocab_size] in
  // slice order. Valid until the next Forward; sampling may overwrite them.
  virtual float* Forward(const StepPlan& plan) = 0;
  // Starts the sampling of the last Forward's logits; it may be followed by another Forward before
  // FinishSample of the same rows waits for it and fills `results`. In between, `rows` and
  // `results` stay where they are; what rows point to is free again when StartSample returns.
  virtual void StartSample(std::span<const SampleRow> rows, std::span<SampleResult> results,
                           float* logits) = 0;
  virtual void FinishSample(std::span<const SampleRow> rows, std::span<SampleResult> results) = 0;
  void Sample(std::span<const SampleRow> rows, std::span<SampleResult> results, float* logits) {
    StartSample(rows, results, logits);
    FinishSample(rows, results);
  }
  virtual uint64_t num_saturated() const = 0;  // elements clipped to the largest FP8 code, ever
  virtual DeviceTime device_time() const { return {}; }  // Backend::device_time
};

class KvCache;

class Model : public StepRunner {
 public:
  // Gives an FP8 cache the scales of, in this order: random tokens where asked for, the file, the
  // checkpoint, else 1. kDataError names the tensor, layer or config field; kNotFound the file;
  // kOsError the memory that could not be had.
  static Result<std::unique_ptr<Model>> Load(const ModelConfig& config,
                                             const ModelLoadOptions& options, Backend& backend);
  // Device memory that such a model takes besides its KV cache, in bytes, rounded up: weights as
  // `dtype`, or with `fp8` those of the layers as FP8, 16-bit activations of the largest step,
  // inputs and workspaces.
  static uint64_t DeviceBytes(const ModelConfig& config, const StepLimits& limits, DType dtype,
                              bool fp8);
  virtual const ModelConfig& config() const = 0;
  virtual const KvLayout& kv_layout() const = 0;
  virtual uint64_t weight_bytes() const = 0;
  virtual KvCache& kv_cache() = 0;
};

// Reads `model_dir`/config.json, and the generation_config.json that `asked` names. kNotFound, or
// kDataError that names the field, the value and what is supported; kInvalidArgument for a flag.
Result<ModelConfig> ReadModelConfig(const std::filesystem::path& model_dir,
                                    const ModelOptions& asked = {});

}  // namespace kvs
