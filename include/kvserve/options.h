// Everything a user can set, as asked: an empty optional is "auto" and is resolved once, by
// config/resolve. Field comments give unit, default and why. Flags, KVSERVE_* variables and YAML
// keys have these names with '-' for '_' (config/flags holds the table).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvserve/dtype.h"

namespace kvs {

enum class LoadFormat : uint8_t { kAuto, kSafetensors, kDummy };
enum class DeviceKind : uint8_t { kAuto, kCpu, kCuda, kHip };
// "auto", "cpu", "cuda", "hip": as --device takes them.
constexpr std::string_view ToString(DeviceKind kind) {
  constexpr std::array<std::string_view, 4> kNames = {"auto", "cpu", "cuda", "hip"};
  return kNames[static_cast<size_t>(kind)];
}
enum class SchedulingPolicy : uint8_t { kFcfs, kPriority };
// How a KV scale is chosen from what keys and values reach.
enum class KvScaleFit : uint8_t {
  kMinMax,      // the largest |x| becomes the largest code: nothing is clipped
  kPercentile,  // that share of the values does, those beyond it are clipped
  kMse,         // the least mean squared error of storing and reading back
};
// What a server can be made to do wrong, so that a check for it can be seen to find it.
enum class Fault : uint8_t {
  kCrash,       // the process dies in its first step
  kCrashOnHit,  // it dies in the first step that computes several tokens after known ones
  kHang,        // the first step never ends
  kWrongText,   // every token is another one
  kNoHit,       // prefix caching is said to be on, and finds nothing
};
enum class LogFormat : uint8_t { kAuto, kText, kJson };  // auto: text on a terminal, else JSON

struct ModelOptions {
  std::string model;                            // directory or Hub id; empty = the bundled model
  std::string revision;                         // of a Hub id: branch, tag or commit; empty = main
  std::vector<std::string> served_model_names;  // default: the model as given
  std::optional<DType> dtype;                   // auto: the checkpoint's
  LoadFormat load_format = LoadFormat::kAuto;
  std::optional<uint32_t> max_model_len;  // tokens; auto: the model's, cut to what the pool holds
  uint64_t seed = 0;                      // of dummy weights and of unseeded requests' draws
  // Where a request's defaults come from: "auto" is the model's generation_config.json, "vllm"
  // takes nothing but the end tokens from it, anything else is a directory with another such file.
  std::string generation_config = "auto";
  std::string override_generation_config;  // JSON object; its fields count over the file's
};

// HTTP proxies, from HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, in either case.
struct ProxyOptions {
  std::string for_https;  // http://[USER:PASSWORD@]HOST[:PORT]; empty: none
  std::string for_http;
  std::string not_for;  // hosts, domains or addresses, separated by commas; "*" is every host
};

// Where Hugging Face's tools keep models, and how to fetch one. No flags: the variables HF_HOME,
// HF_HUB_CACHE, HF_HUB_OFFLINE, HF_ENDPOINT, HF_TOKEN and HF_TOKEN_PATH say it to all of them
// alike, and those of the proxies.
struct HubOptions {
  std::string cache_dir;
  std::string endpoint = "https://huggingface.co";  // without a slash at the end
  std::string token;                                // empty: anonymous
  bool offline = false;
  ProxyOptions proxy;
};

struct CacheOptions {
  std::optional<KvCacheDType> kv_cache_dtype;  // auto: the checkpoint's scheme, else its dtype
  bool calculate_kv_scales = false;
  bool require_kv_scales = false;
  uint32_t calibrate_on_requests = 0;   // requests served with BF16 blocks to find scales; 0: none
  std::string kv_scales_output_dir;     // where the model with those scales goes; empty: nowhere
  bool kv_scales_per_head = false;      // of scales found here, one for each KV head
  std::string quantization_param_path;  // JSON of scales; empty: those of the checkpoint
  std::vector<std::string> kv_cache_dtype_skip_layers;  // numbers of layers kept in BF16
  bool enable_prefix_caching = false;  // off by default, as in the article kvserve follows
  uint32_t block_size = 16;            // tokens: 16, 32 or 64
  // Pool size: at most one of the three. Default: kCpuKvCacheBytesDefault.
  std::optional<uint64_t> kv_cache_memory_bytes;
  std::optional<uint64_t> kv_cache_tokens;
  std::optional<uint32_t> num_gpu_blocks_override;
  double gpu_memory_utilization = 0.92;  // share of a device's memory; devices only
};

struct SchedulerOptions {
  uint32_t max_num_seqs = 128;
  uint32_t max_num_batched_tokens = 2048;
  uint32_t max_num_queued_reqs = 1024;  // waiting requests; more are answered 503
  SchedulingPolicy policy = SchedulingPolicy::kFcfs;
};

struct DeviceOptions {
  DeviceKind device = DeviceKind::kAuto;
  uint32_t device_index = 0;     // of GPUs of this kind, as the driver numbers them
  bool batch_invariant = false;  // a row's bits depend on that row alone; always so on the CPU
  bool enforce_eager = false;    // no graphs are recorded
  uint32_t num_threads = 0;      // CPU threads; 0 = one per core
  std::string cpu_instruction_set = "auto";
  // FP8 with prefix caching, where that pair has killed servers, without a passed `kvserve doctor`.
  bool skip_isolation_check = false;
  // For tests of kvserve itself. The architecture counts for the isolation check alone; empty: the
  // device's own.
  std::string simulate_architecture;
  std::optional<Fault> inject_fault;
};

struct HttpOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 8000;
  std::vector<std::string> api_keys;  // --api-key, KVSERVE_API_KEY
  std::string api_key_file;           // one key a line
  std::string ssl_certfile;
  std::string ssl_keyfile;
  uint64_t max_body_bytes = 8u << 20;
  uint32_t max_connections = 0;      // 0: max_num_seqs + max_num_queued_reqs + 64, at most 2048
  uint32_t shutdown_timeout_s = 30;  // SIGTERM: seconds for requests in flight; 0 aborts them
  uint32_t send_timeout_s = 30;      // a client that does not read for so long is dropped
};

// How the calls of a model's tools stand in its text.
enum class ToolCallParser : uint8_t {
  kLlama3Json,  // {"name": ..., "parameters": {...}}
  kHermes,      // <tool_call>{"name": ..., "arguments": {...}}</tool_call>; Qwen too
};
// Where a model's reasoning stands: <think> ... </think> in both.
enum class ReasoningParser : uint8_t {
  kDeepseekR1,  // the answer begins inside of it
  kQwen3,       // it begins where the model, or the prompt, opens it
};

struct ChatOptions {
  std::string chat_template;  // file; empty: the model's own
  bool enable_auto_tool_choice = false;
  std::optional<ToolCallParser> tool_call_parser;   // absent: tool calls stay text
  std::optional<ReasoningParser> reasoning_parser;  // absent: reasoning stays text
};

struct LogOptions {
  std::string level = "info";  // trace, debug, info, warning, error
  LogFormat format = LogFormat::kAuto;
};

struct ServerOptions {
  ModelOptions model;
  CacheOptions cache;
  SchedulerOptions scheduler;
  DeviceOptions device;
  HttpOptions http;
  ChatOptions chat;
  LogOptions log;
};

// The pool when nothing sizes it: enough for a small model on a small machine.
inline constexpr uint64_t kCpuKvCacheBytesDefault = uint64_t{1} << 30;

}  // namespace kvs
