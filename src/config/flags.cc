#include "config/flags.h"

#include <algorithm>

namespace kvs {
namespace {

using S = ServeSettings;
using Table = std::vector<Flag<S>>;

constexpr uint64_t kU32Max = UINT32_MAX;

// What can stand in an Authorization header: visible ASCII without spaces.
bool IsApiKey(const std::string& text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > 32 && c < 127; });
}

void AddModelFlags(Table& table) {
  const FlagGroup group = FlagGroup::kModel;
  table.push_back(TextFlag<S>(
      {"model", group, "MODEL",
       "Model directory, or org/name on the Hugging Face Hub; the bundled model when none is named",
       kCommon},
      At(&S::model, &ModelOptions::model), IsNotEmpty, "a model directory or org/name"));
  table.push_back(TextFlag<S>({"revision", group, "REVISION",
                               "Branch, tag or commit of a model on the Hub; main when none"},
                              At(&S::model, &ModelOptions::revision), IsRevision,
                              kRevisionAllowed));
  table.push_back(ListFlag<S>({"served-model-name", group, "NAME",
                               "Name clients use; several may be given, the first is answered with",
                               kCommon, FlagKind::kSeveral},
                              At(&S::model, &ModelOptions::served_model_names), IsNotEmpty,
                              "a name that is not empty"));
  table.push_back(ChoiceFlag<S, std::optional<DType>>(
      {"dtype", group, "TYPE",
       "Type of the weights in memory: auto (the checkpoint's), bfloat16, "
       "float16, float32"},
      At(&S::model, &ModelOptions::dtype),
      {{"auto", std::nullopt},
       {"bfloat16", DType::kBf16},
       {"float16", DType::kF16},
       {"float32", DType::kF32}}));
  table.push_back(
      ChoiceFlag<S, LoadFormat>({"load-format", group, "FORMAT",
                                 "Weights: auto, safetensors, or dummy (random, for speed tests)"},
                                At(&S::model, &ModelOptions::load_format),
                                {{"auto", LoadFormat::kAuto},
                                 {"safetensors", LoadFormat::kSafetensors},
                                 {"dummy", LoadFormat::kDummy}}));
  table.push_back(AutoOrWholeFlag<S>(
      {"max-model-len", group, "TOKENS",
       "Most tokens of one sequence, prompt and output; auto: the model's, or what the pool holds",
       kCommon},
      At(&S::model, &ModelOptions::max_model_len), 1, kU32Max));
  table.push_back(
      WholeFlag<S>({"seed", group, "N", "Seed of dummy weights and of requests that give none"},
                   At(&S::model, &ModelOptions::seed), 0, UINT64_MAX));
  table.push_back(TextFlag<S>(
      {"generation-config", group, "WHERE",
       "Defaults of requests: auto (the model's generation_config.json), vllm (none of it but the "
       "end tokens), or a directory with another"},
      At(&S::model, &ModelOptions::generation_config), IsNotEmpty, "auto, vllm or a directory"));
  table.push_back(TextFlag<S>({"override-generation-config", group, "JSON",
                               "Object of defaults that count over generation_config.json: "
                               "temperature, top_p, top_k, min_p, "
                               "repetition_penalty, max_new_tokens"},
                              At(&S::model, &ModelOptions::override_generation_config), IsNotEmpty,
                              "a JSON object"));
}

void AddCacheFlags(Table& table) {
  const FlagGroup group = FlagGroup::kKvCache;
  table.push_back(ChoiceFlag<S, std::optional<KvCacheDType>>(
      {"kv-cache-dtype", group, "TYPE",
       "Storage of keys and values: auto (the checkpoint's), bfloat16, float16, fp8 (= fp8_e4m3), "
       "fp8_e5m2, float32",
       kCommon},
      At(&S::cache, &CacheOptions::kv_cache_dtype),
      {{"auto", std::nullopt},
       {"bfloat16", KvCacheDType::kBf16},
       {"float16", KvCacheDType::kF16},
       {"fp8", KvCacheDType::kF8E4M3},
       {"fp8_e4m3", KvCacheDType::kF8E4M3},
       {"fp8_e5m2", KvCacheDType::kF8E5M2},
       {"float32", KvCacheDType::kF32}}));
  table.push_back(SwitchFlag<S>({"enable-prefix-caching", group, nullptr,
                                 "Reuse the blocks of prefixes seen before", kCommon},
                                At(&S::cache, &CacheOptions::enable_prefix_caching)));
  table.push_back(SwitchFlag<S>(
      {"calculate-kv-scales", group, nullptr, "Compute FP8 scales from random tokens at start"},
      At(&S::cache, &CacheOptions::calculate_kv_scales)));
  table.push_back(WholeFlag<S>({"calibrate-on-requests", group, "N",
                                "Serve N requests with BF16 blocks, then switch to FP8 with the "
                                "scales that fit them; 0: off"},
                               At(&S::cache, &CacheOptions::calibrate_on_requests), 0, 1u << 24));
  table.push_back(TextFlag<S>(
      {"kv-scales-output-dir", group, "DIR",
       "Write the model with the scales of --calibrate-on-requests there; must not exist yet"},
      At(&S::cache, &CacheOptions::kv_scales_output_dir), IsNotEmpty, "a path"));
  table.push_back(ChoiceFlag<S, bool>(
      {"kv-scales-strategy", group, "STRATEGY",
       "Scales computed while serving: one for K and V of a layer (tensor), or for each KV head "
       "(attn_head)"},
      At(&S::cache, &CacheOptions::kv_scales_per_head), {{"tensor", false}, {"attn_head", true}}));
  table.push_back(SwitchFlag<S>(
      {"require-kv-scales", group, nullptr, "Refuse to start an FP8 cache without scales"},
      At(&S::cache, &CacheOptions::require_kv_scales)));
  table.push_back(TextFlag<S>({"quantization-param-path", group, "FILE",
                               "JSON file of KV scales, used instead of the checkpoint's"},
                              At(&S::cache, &CacheOptions::quantization_param_path), IsNotEmpty,
                              "a file name"));
  table.push_back(ListFlag<S>(
      {"kv-cache-dtype-skip-layers", group, "LAYER",
       "Layers of an FP8 cache to keep in BF16, by number from 0", false, FlagKind::kSeveral},
      At(&S::cache, &CacheOptions::kv_cache_dtype_skip_layers), IsNotEmpty,
      "the number of a layer"));
  table.push_back(
      BytesFlag<S>({"kv-cache-memory-bytes", group, "BYTES",
                    "Pool size in bytes, K/M/G accepted; 1G when nothing sizes the pool", kCommon},
                   At(&S::cache, &CacheOptions::kv_cache_memory_bytes)));
  table.push_back(WholeFlag<S>({"kv-cache-tokens", group, "TOKENS",
                                "Pool size in tokens, the same for every dtype", kCommon},
                               At(&S::cache, &CacheOptions::kv_cache_tokens), 1, kU32Max));
  table.push_back(WholeFlag<S>(
      {"num-gpu-blocks-override", group, "BLOCKS", "Pool size in blocks, on any device"},
      At(&S::cache, &CacheOptions::num_gpu_blocks_override), 1, kU32Max));
  table.push_back(RealFlag<S>({"gpu-memory-utilization", group, "SHARE",
                               "Share of a GPU's memory to use; has no effect on the CPU"},
                              At(&S::cache, &CacheOptions::gpu_memory_utilization), 0.01, 1.0));
  table.push_back(ChoiceFlag<S, uint32_t>(
      {"block-size", group, "TOKENS", "Tokens per KV block: 16, 32 or 64"},
      At(&S::cache, &CacheOptions::block_size), {{"16", 16}, {"32", 32}, {"64", 64}}));
}

void AddSchedulerFlags(Table& table) {
  const FlagGroup group = FlagGroup::kScheduler;
  table.push_back(WholeFlag<S>({"max-num-seqs", group, "N", "Most sequences in one step", kCommon},
                               At(&S::scheduler, &SchedulerOptions::max_num_seqs), 1, 4096));
  table.push_back(WholeFlag<S>(
      {"max-num-batched-tokens", group, "TOKENS", "Most tokens computed in one step", kCommon},
      At(&S::scheduler, &SchedulerOptions::max_num_batched_tokens), 1, 1u << 20));
  table.push_back(WholeFlag<S>(
      {"max-num-queued-reqs", group, "N", "Most waiting requests; further ones are answered 503"},
      At(&S::scheduler, &SchedulerOptions::max_num_queued_reqs), 1, 1u << 20));
  table.push_back(ChoiceFlag<S, SchedulingPolicy>(
      {"scheduling-policy", group, "POLICY", "Who goes first: fcfs or priority"},
      At(&S::scheduler, &SchedulerOptions::policy),
      {{"fcfs", SchedulingPolicy::kFcfs}, {"priority", SchedulingPolicy::kPriority}}));
}

void AddHttpFlags(Table& table) {
  const FlagGroup group = FlagGroup::kHttp;
  table.push_back(TextFlag<S>({"host", group, "HOST", "Address to listen on", kCommon},
                              At(&S::http, &HttpOptions::host), IsNotEmpty,
                              "a host name or address"));
  table.push_back(
      WholeFlag<S>({"port", group, "PORT", "Port to listen on; 0 takes a free one", kCommon},
                   At(&S::http, &HttpOptions::port), 0, 65535));
  table.push_back(WholeFlag<S>(
      {"max-connections", group, "N",
       "Most connections at once; 0: max-num-seqs + max-num-queued-reqs + 64, at most 2048"},
      At(&S::http, &HttpOptions::max_connections), 0, 65536));
  table.push_back(BytesFlag<S>({"max-body-bytes", group, "BYTES", "Longest request body"},
                               At(&S::http, &HttpOptions::max_body_bytes)));
  table.push_back(WholeFlag<S>(
      {"send-timeout", group, "SECONDS", "A client that does not read for so long is dropped"},
      At(&S::http, &HttpOptions::send_timeout_s), 1, 86400));
  table.push_back(WholeFlag<S>({"shutdown-timeout", group, "SECONDS",
                                "After SIGTERM, time for requests in flight; 0 aborts them"},
                               At(&S::http, &HttpOptions::shutdown_timeout_s), 0, 86400));
}

void AddChatFlags(Table& table) {
  const FlagGroup group = FlagGroup::kHttp;
  table.push_back(TextFlag<S>({"chat-template", group, "FILE",
                               "Jinja file to write chats with, in place of the model's template"},
                              At(&S::chat, &ChatOptions::chat_template), IsNotEmpty,
                              "a file name"));
  table.push_back(SwitchFlag<S>({"enable-auto-tool-choice", group, nullptr,
                                 "Let chat answers call tools; needs --tool-call-parser"},
                                At(&S::chat, &ChatOptions::enable_auto_tool_choice)));
  table.push_back(ChoiceFlag<S, std::optional<ToolCallParser>>(
      {"tool-call-parser", group, "FORMAT",
       "How the model writes tool calls: none (they stay text), llama3_json, hermes (Qwen too)"},
      At(&S::chat, &ChatOptions::tool_call_parser),
      {{"none", std::nullopt},
       {"llama3_json", ToolCallParser::kLlama3Json},
       {"hermes", ToolCallParser::kHermes}}));
  table.push_back(ChoiceFlag<S, std::optional<ReasoningParser>>(
      {"reasoning-parser", group, "FORMAT",
       "How the model writes reasoning: none (it stays text), qwen3, deepseek_r1"},
      At(&S::chat, &ChatOptions::reasoning_parser),
      {{"none", std::nullopt},
       {"qwen3", ReasoningParser::kQwen3},
       {"deepseek_r1", ReasoningParser::kDeepseekR1}}));
}

void AddSecurityFlags(Table& table) {
  const FlagGroup group = FlagGroup::kSecurity;
  const bool secret = true;
  table.push_back(ListFlag<S>(
      {"api-key", group, "KEY",
       "Key that requests must carry; repeatable. Other users see arguments: prefer the file",
       false, FlagKind::kList},
      At(&S::http, &HttpOptions::api_keys), IsApiKey, "visible ASCII characters without spaces",
      secret));
  table.push_back(TextFlag<S>({"api-key-file", group, "FILE", "File of keys, one a line", kCommon},
                              At(&S::http, &HttpOptions::api_key_file), IsNotEmpty, "a file name"));
  table.push_back(
      TextFlag<S>({"ssl-certfile", group, "FILE", "Certificate chain (PEM): serve HTTPS"},
                  At(&S::http, &HttpOptions::ssl_certfile), IsNotEmpty, "a file name"));
  table.push_back(TextFlag<S>({"ssl-keyfile", group, "FILE", "The certificate's private key (PEM)"},
                              At(&S::http, &HttpOptions::ssl_keyfile), IsNotEmpty, "a file name"));
}

void AddDeviceFlags(Table& table) {
  const FlagGroup group = FlagGroup::kDevice;
  table.push_back(ChoiceFlag<S, DeviceKind>(
      {"device", group, "KIND", "What to compute on: auto, cpu, cuda, hip"},
      At(&S::device, &DeviceOptions::device),
      {{"auto", DeviceKind::kAuto},
       {"cpu", DeviceKind::kCpu},
       {"cuda", DeviceKind::kCuda},
       {"hip", DeviceKind::kHip}}));
  table.push_back(WholeFlag<S>({"device-index", group, "N", "Which GPU, from 0"},
                               At(&S::device, &DeviceOptions::device_index), 0, 63));
  table.push_back(SwitchFlag<S>({"batch-invariant", group, nullptr,
                                 "The same bits for a request whatever its company, chunks and "
                                 "prefix hits: always so on the CPU, slower on a GPU"},
                                At(&S::device, &DeviceOptions::batch_invariant)));
  table.push_back(SwitchFlag<S>({"enforce-eager", group, nullptr,
                                 "Launch every GPU operation by itself instead of recorded graphs"},
                                At(&S::device, &DeviceOptions::enforce_eager)));
  table.push_back(WholeFlag<S>({"threads", group, "N", "CPU threads; 0: one per core", kCommon},
                               At(&S::device, &DeviceOptions::num_threads), 0, 1024));
  table.push_back(InstructionSetFlag<S>(group, &S::device));
}

// What only the isolation check and tests of it need.
void AddIsolationFlags(Table& table) {
  const FlagGroup group = FlagGroup::kDevice;
  table.push_back(SwitchFlag<S>({"skip-isolation-check", group, nullptr,
                                 "Run FP8 with prefix caching on RDNA3 though `kvserve doctor` has "
                                 "not passed on this machine"},
                                At(&S::device, &DeviceOptions::skip_isolation_check)));
  table.push_back(TextFlag<S>({"simulate-architecture", group, "NAME",
                               "For tests: let the isolation check see this architecture, as "
                               "gfx1100"},
                              At(&S::device, &DeviceOptions::simulate_architecture), IsNotEmpty,
                              "the name of an architecture"));
  table.push_back(ChoiceFlag<S, std::optional<Fault>>(
      {"inject-fault", group, "FAULT",
       "For tests: serve wrongly, by none, crash, crash-on-hit, hang, wrong-text or no-hit"},
      At(&S::device, &DeviceOptions::inject_fault), FaultChoices()));
}

void AddLoggingFlags(Table& table) {
  const FlagGroup group = FlagGroup::kLogging;
  table.push_back(ChoiceFlag<S, std::string>(
      {"log-level", group, "LEVEL", "Least level to log: trace, debug, info, warning, error",
       kCommon},
      At(&S::log, &LogOptions::level),
      {{"info", "info"},
       {"trace", "trace"},
       {"debug", "debug"},
       {"warning", "warning"},
       {"error", "error"}}));
  table.push_back(ChoiceFlag<S, LogFormat>(
      {"log-format", group, "FORMAT", "auto (text on a terminal, else JSON lines), text, json"},
      At(&S::log, &LogOptions::format),
      {{"auto", LogFormat::kAuto}, {"text", LogFormat::kText}, {"json", LogFormat::kJson}}));
  table.push_back(
      TextFlag<S>({"config", FlagGroup::kGeneral, "FILE",
                   "YAML file of the same names; flags and KVSERVE_* count over it", kCommon},
                  At(&S::config_file), IsNotEmpty, "a file name"));
}

}  // namespace

std::vector<Choice<std::optional<Fault>>> FaultChoices() {
  return {{"none", std::nullopt},
          {"crash", Fault::kCrash},
          {"crash-on-hit", Fault::kCrashOnHit},
          {"hang", Fault::kHang},
          {"wrong-text", Fault::kWrongText},
          {"no-hit", Fault::kNoHit}};
}

std::vector<Flag<ServeSettings>> ServeFlags() {
  Table table;
  AddModelFlags(table);
  AddCacheFlags(table);
  AddSchedulerFlags(table);
  AddHttpFlags(table);
  AddChatFlags(table);
  AddSecurityFlags(table);
  AddDeviceFlags(table);
  AddIsolationFlags(table);
  AddLoggingFlags(table);
  return table;
}

}  // namespace kvs
