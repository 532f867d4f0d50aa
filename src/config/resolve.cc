// ResolveOptions: from what was asked, with its "auto", to what the engine is built from.
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "config/config.h"
#include "config/kv_pool.h"
#include "config/parse_value.h"
#include "config/secrets.h"

namespace kvs {
namespace {

// Rows of logits beyond one per sequence, so that prompt logprobs progress in chunks.
constexpr uint32_t kPromptLogitsRows = 64;
constexpr uint32_t kMaxConnectionsDefault = 2048;

tl::unexpected<Status> Refuse(const char* flag, const std::string& problem) {
  return Error(Code::kInvalidArgument, fmt::format("{}: {}", flag, problem), flag);
}

// What the cache stores: as asked, else as the checkpoint says, else the type of the weights.
Result<KvCacheDType> ResolveKvDType(const CacheOptions& asked, const ModelConfig& config,
                                    DType weights) {
  if (asked.kv_cache_dtype) return *asked.kv_cache_dtype;
  if (!config.kv_scheme) return KvCacheDTypeOf(weights);
  if (config.kv_scheme->unsupported.empty()) return config.kv_scheme->dtype;
  return Refuse("--kv-cache-dtype",
                fmt::format("'auto' follows the checkpoint, but {} {}; ask for bfloat16, float16, "
                            "fp8 or fp8_e5m2",
                            config.kv_scheme->where, config.kv_scheme->unsupported));
}

// Flags of scales that are found here.
Result<void> CheckComputedScales(const CacheOptions& asked, KvCacheDType dtype) {
  if (!asked.kv_scales_output_dir.empty() && asked.calibrate_on_requests == 0) {
    return Refuse("--kv-scales-output-dir",
                  "needs --calibrate-on-requests; `kvserve calibrate` "
                  "writes the scales of a dataset");
  }
  if (!asked.kv_scales_output_dir.empty() && dtype != KvCacheDType::kF8E4M3) {
    return Refuse("--kv-scales-output-dir", fmt::format("checkpoints hold scales of fp8_e4m3, got "
                                                        "--kv-cache-dtype {}",
                                                        ToString(dtype)));
  }
  if (asked.kv_scales_per_head && asked.calibrate_on_requests == 0 && !asked.calculate_kv_scales) {
    return Refuse("--kv-scales-strategy",
                  "needs --calibrate-on-requests or --calculate-kv-scales; a checkpoint's scales "
                  "are what they are");
  }
  return {};
}

// Flags that mean something for an FP8 cache alone.
Result<void> CheckScales(const CacheOptions& asked, KvCacheDType dtype) {
  const std::pair<const char*, bool> flags[] = {
      {"--calculate-kv-scales", asked.calculate_kv_scales},
      {"--require-kv-scales", asked.require_kv_scales},
      {"--calibrate-on-requests", asked.calibrate_on_requests > 0},
      {"--quantization-param-path", !asked.quantization_param_path.empty()},
      {"--kv-cache-dtype-skip-layers", !asked.kv_cache_dtype_skip_layers.empty()},
  };
  for (const auto& [flag, given] : flags) {
    if (!given || IsFp8(dtype)) continue;
    return Refuse(flag,
                  fmt::format("needs an FP8 cache, got --kv-cache-dtype {}", ToString(dtype)));
  }
  if (asked.calculate_kv_scales && !asked.quantization_param_path.empty()) {
    return Refuse("--calculate-kv-scales",
                  "scales come from random tokens or from --quantization-param-path, not both");
  }
  if (asked.calibrate_on_requests > 0 &&
      (asked.calculate_kv_scales || !asked.quantization_param_path.empty())) {
    return Refuse("--calibrate-on-requests",
                  "scales come from requests, from random tokens (--calculate-kv-scales) or from "
                  "--quantization-param-path: one of them");
  }
  return CheckComputedScales(asked, dtype);
}

Result<std::vector<uint32_t>> ResolveSkipLayers(const std::vector<std::string>& asked,
                                                const ModelConfig& config) {
  std::set<uint32_t> layers;
  for (const std::string& text : asked) {
    const auto layer = ParseWhole(text, 0, config.num_layers - 1);
    if (!layer) return Refuse("--kv-cache-dtype-skip-layers", layer.error().message());
    layers.insert(static_cast<uint32_t>(*layer));
  }
  if (layers.size() == config.num_layers) {
    return Refuse("--kv-cache-dtype-skip-layers",
                  fmt::format("all {} layers are kept in BF16; ask for --kv-cache-dtype bfloat16",
                              config.num_layers));
  }
  return std::vector<uint32_t>(layers.begin(), layers.end());
}

Result<void> ResolveScales(const CacheOptions& asked, const ModelConfig& config,
                           ResolvedOptions& options) {
  const auto dtype = ResolveKvDType(asked, config, options.dtype);
  if (!dtype) return tl::unexpected<Status>(dtype.error());
  KVS_RETURN_IF_ERROR(CheckScales(asked, *dtype));
  auto skip_layers = ResolveSkipLayers(asked.kv_cache_dtype_skip_layers, config);
  if (!skip_layers) return tl::unexpected<Status>(skip_layers.error());
  options.kv_dtype = *dtype;
  options.kv_bf16_layers = *std::move(skip_layers);
  options.calculate_kv_scales = asked.calculate_kv_scales;
  options.require_kv_scales = asked.require_kv_scales;
  options.kv_scale_file = asked.quantization_param_path;
  options.calibrate_on_requests = asked.calibrate_on_requests;
  options.kv_scales_output_dir = asked.kv_scales_output_dir;
  options.kv_scales_per_head = asked.kv_scales_per_head;
  return {};
}

// What sizes the pool, for messages: the flag, and what it was given.
struct PoolRequest {
  const char* flag;
  uint64_t num_blocks;
  std::string text;
};

// What --gpu-memory-utilization leaves for the pool.
Result<PoolRequest> SharedPool(const CacheOptions& asked, const KvLayout& layout,
                               const DeviceBudget& device) {
  const double share = asked.gpu_memory_utilization;
  const auto usable = static_cast<uint64_t>(share * static_cast<double>(device.total));
  const uint64_t taken = device.total - device.free + device.model;
  if (usable <= taken + layout.BlockBytes()) {
    return Refuse(
        "--gpu-memory-utilization",
        fmt::format("{} of the device's {} bytes are {}, but other programs use {} and "
                    "the model needs {}: nothing is left for the KV cache; raise it, or "
                    "lower --max-num-batched-tokens or --max-num-seqs",
                    share, device.total, usable, device.total - device.free, device.model));
  }
  const uint64_t bytes = usable - taken;
  return PoolRequest{"--gpu-memory-utilization", BlocksInBytes(layout, bytes),
                     fmt::format("{} bytes at a share of {}", bytes, share)};
}

Result<PoolRequest> AskedPool(const CacheOptions& asked, const KvLayout& layout,
                              const std::optional<DeviceBudget>& device) {
  const int num_given = (asked.kv_cache_memory_bytes ? 1 : 0) + (asked.kv_cache_tokens ? 1 : 0) +
                        (asked.num_gpu_blocks_override ? 1 : 0);
  if (num_given > 1) {
    return Refuse("--kv-cache-memory-bytes",
                  "at most one of --kv-cache-memory-bytes, --kv-cache-tokens and "
                  "--num-gpu-blocks-override sizes the pool, got several");
  }
  if (asked.num_gpu_blocks_override) {
    return PoolRequest{"--num-gpu-blocks-override", *asked.num_gpu_blocks_override,
                       fmt::format("{} blocks", *asked.num_gpu_blocks_override)};
  }
  if (asked.kv_cache_tokens) {
    const uint64_t blocks = (*asked.kv_cache_tokens + layout.block_size - 1) / layout.block_size;
    return PoolRequest{"--kv-cache-tokens", blocks,
                       fmt::format("{} tokens", *asked.kv_cache_tokens)};
  }
  if (device && num_given == 0) return SharedPool(asked, layout, *device);
  const uint64_t bytes = asked.kv_cache_memory_bytes.value_or(kCpuKvCacheBytesDefault);
  return PoolRequest{"--kv-cache-memory-bytes", BlocksInBytes(layout, bytes),
                     fmt::format("{} bytes{}", bytes, num_given == 0 ? " (the default)" : "")};
}

uint64_t AvailableBytes(const std::optional<DeviceBudget>& device) {
  if (!device) return AvailableMemoryBytes();
  return device->free > device->model ? device->free - device->model : 0;
}

// Blocks, bytes and tokens of the pool.
Result<PoolRequest> ResolvePool(const CacheOptions& asked, const KvLayout& layout,
                                const std::optional<DeviceBudget>& device,
                                ResolvedOptions& options) {
  auto pool = AskedPool(asked, layout, device);
  if (!pool) return pool;
  if (pool->num_blocks == 0) {
    return Refuse(pool->flag, fmt::format("{} hold no block; one block of {} tokens takes {} bytes",
                                          pool->text, layout.block_size, layout.BlockBytes()));
  }
  if (pool->num_blocks > kPoolTokensMax / layout.block_size) {
    return Refuse(pool->flag,
                  fmt::format("{} are {} blocks of {} tokens; at most {} tokens are "
                              "supported",
                              pool->text, pool->num_blocks, layout.block_size, kPoolTokensMax));
  }
  const uint64_t bytes = pool->num_blocks * layout.BlockBytes();
  const uint64_t available = AvailableBytes(device);
  if (bytes > available) {
    return Refuse(pool->flag, fmt::format("{} need {} bytes of memory, but only {} are available; "
                                          "ask for less",
                                          pool->text, bytes, available));
  }
  const KvLayout bf16 = layout.As(KvCacheDType::kBf16);
  options.num_blocks = static_cast<uint32_t>(pool->num_blocks);
  options.kv_pool_bytes = bytes;
  options.kv_bytes_per_token = layout.TokenBytes();
  options.kv_pool_tokens = pool->num_blocks * layout.block_size;
  options.kv_pool_tokens_bf16 = bytes / bf16.BlockBytes() * layout.block_size;
  options.num_calibration_blocks = static_cast<uint32_t>(bytes / bf16.BlockBytes());
  if (asked.calibrate_on_requests > 0 && options.num_calibration_blocks == 0) {
    return Refuse(pool->flag, fmt::format("{} hold no block of BF16, which --calibrate-on-requests "
                                          "begins with; one takes {} bytes",
                                          pool->text, bf16.BlockBytes()));
  }
  return pool;
}

Result<void> ResolveLength(const ModelOptions& asked, const ModelConfig& config,
                           const PoolRequest& pool, ResolvedOptions& options) {
  options.model_max_len = config.max_position_embeddings;
  // Calibrating on requests, the pool is BF16 at first; what is accepted must fit then too.
  const auto held = static_cast<uint32_t>(
      options.calibrate_on_requests > 0 ? options.kv_pool_tokens_bf16 : options.kv_pool_tokens);
  if (!asked.max_model_len) {
    options.max_model_len = std::min(options.model_max_len, held);
    return {};
  }
  options.max_model_len = *asked.max_model_len;
  if (options.max_model_len > options.model_max_len) {
    return Refuse("--max-model-len", fmt::format("got {}, but the model has {} positions",
                                                 options.max_model_len, options.model_max_len));
  }
  if (options.max_model_len > held) {
    return Refuse("--max-model-len",
                  fmt::format("got {}, but the KV pool holds {} tokens{} ({}: {}); lower it, or "
                              "give the pool more",
                              options.max_model_len, held,
                              options.calibrate_on_requests > 0 ? " while it is BF16" : "",
                              pool.flag, pool.text));
  }
  return {};
}

Result<void> ResolveHttp(const ServerOptions& asked, HttpOptions& http) {
  http = asked.http;
  KVS_RETURN_IF_ERROR(CheckTlsFiles(http));
  if (!http.api_key_file.empty()) {
    auto keys = ReadApiKeyFile(http.api_key_file);
    if (!keys) return tl::unexpected<Status>(std::move(keys).error());
    http.api_keys.insert(http.api_keys.end(), keys->begin(), keys->end());
  }
  if (http.max_connections == 0) {
    http.max_connections =
        std::min(asked.scheduler.max_num_seqs + asked.scheduler.max_num_queued_reqs + 64,
                 kMaxConnectionsDefault);
  }
  return {};
}

}  // namespace

uint32_t MaxLogitsRows(const SchedulerOptions& asked) {
  return asked.max_num_seqs + kPromptLogitsRows;
}

Result<ResolvedOptions> ResolveOptions(const ServerOptions& asked,
                                       const std::filesystem::path& model_dir,
                                       const ModelConfig& config,
                                       const std::optional<DeviceBudget>& device) {
  ResolvedOptions options{};
  options.model_dir = model_dir;
  options.served_model_names = asked.model.served_model_names;
  if (options.served_model_names.empty()) {
    options.served_model_names = {asked.model.model.empty() ? "default" : asked.model.model};
  }
  options.load_format = asked.model.load_format;
  options.dtype = asked.model.dtype.value_or(config.checkpoint_dtype);
  KVS_RETURN_IF_ERROR(ResolveScales(asked.cache, config, options));
  options.enable_prefix_caching = asked.cache.enable_prefix_caching;
  options.block_size = asked.cache.block_size;
  options.max_num_seqs = asked.scheduler.max_num_seqs;
  options.max_num_batched_tokens = asked.scheduler.max_num_batched_tokens;
  options.max_num_logits_rows = MaxLogitsRows(asked.scheduler);
  options.max_num_queued_reqs = asked.scheduler.max_num_queued_reqs;
  options.policy = asked.scheduler.policy;
  options.seed = asked.model.seed;

  KvLayout layout = LayoutOf(config, options.block_size, options.kv_dtype);
  layout.num_bf16_layers = static_cast<uint32_t>(options.kv_bf16_layers.size());
  const auto pool = ResolvePool(asked.cache, layout, device, options);
  if (!pool) return tl::unexpected<Status>(pool.error());
  KVS_RETURN_IF_ERROR(ResolveLength(asked.model, config, *pool, options));
  KVS_RETURN_IF_ERROR(ResolveHttp(asked, options.http));
  return options;
}

std::string ResolvedOptions::Summary() const {
  return fmt::format(
      "kv_cache_dtype={} enable_prefix_caching={} block_size={} kv_bytes_per_token={} "
      "kv_pool_bytes={} kv_pool_blocks={} kv_pool_tokens={} kv_pool_tokens_bf16={} "
      "max_model_len={} model_max_len={} dtype={} max_num_seqs={} max_num_batched_tokens={} "
      "max_num_queued_reqs={} scheduling_policy={} seed={} host={} port={} api_keys={} tls={} "
      "model={}",
      ToString(kv_dtype), enable_prefix_caching, block_size, kv_bytes_per_token, kv_pool_bytes,
      num_blocks, kv_pool_tokens, kv_pool_tokens_bf16, max_model_len, model_max_len,
      ToString(dtype), max_num_seqs, max_num_batched_tokens, max_num_queued_reqs,
      policy == SchedulingPolicy::kFcfs ? "fcfs" : "priority", seed, http.host, http.port,
      http.api_keys.size(), http.ssl_certfile.empty() ? "off" : "on", model_dir.string());
}

}  // namespace kvs
