// From argv, KVSERVE_* variables and a YAML file to options. Flag over environment over file over
// default; an unknown key is an error with a suggestion. Nothing below this layer reads the
// outside.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "kvserve/kv_layout.h"
#include "kvserve/model_config.h"
#include "kvserve/options.h"
#include "kvserve/status.h"

namespace kvs {

struct ServeCommand {
  ServerOptions options;
};
struct CheckCacheCommand {
  std::string url;
  std::string api_key;
  std::string model;             // empty: the first of /v1/models
  uint32_t prompt_tokens = 512;  // at least
  uint32_t max_tokens = 32;
  bool json = false;
};
struct BenchCommand {
  std::string url;
  std::string api_key;
  std::string model;
  uint32_t num_prompts = 64;
  uint32_t concurrency = 8;   // closed loop
  double request_rate = 0.0;  // requests per second, Poisson; > 0 makes the loop open
  uint32_t prompt_tokens = 256;
  uint32_t output_tokens = 64;
  uint32_t shared_prefix_tokens = 0;
  uint32_t num_prefixes = 1;
  uint64_t seed = 0;
  bool json = false;
};
struct PlanCommand {
  std::string model;          // directory, config.json or Hub id
  std::string revision;       // of a Hub id
  uint64_t memory_bytes = 0;  // for the KV cache
  uint32_t context = 0;       // tokens per sequence; 0 = the model's length
  uint32_t block_size = 16;
  bool json = false;
};
struct CalibrateCommand {
  std::string model;       // directory or Hub id
  std::string revision;    // of a Hub id
  std::string dataset;     // file
  std::string output_dir;  // must not exist yet
  uint32_t num_samples = 512;
  uint32_t max_seq_len = 2048;  // tokens; longer samples are cut
  bool per_head = false;        // --strategy attn_head
  KvScaleFit observer = KvScaleFit::kMinMax;
  double percentile = 0.99999;  // of the observer of this name
  uint32_t max_num_batched_tokens = 4096;
  bool compare_prefill = false;  // also compute without statistics, to tell what they cost
  DeviceOptions device;
  bool json = false;
};
struct EvalCommand {
  std::string model;
  std::string revision;                       // of a Hub id
  std::vector<KvCacheDType> kv_cache_dtypes;  // empty: fp8_e4m3
  std::vector<std::string> scales;  // "none", "random", "random-head", "checkpoint", a path
  std::vector<std::string> skip_layers;
  std::string text;             // dataset for perplexity and agreement
  std::string passkey;          // dataset of prompts and answers
  uint32_t num_samples = 64;    // of each dataset; of passkeys, for each length
  uint32_t max_seq_len = 2048;  // tokens of a sample of text
  std::string output_json;      // also written there
  std::string plot;             // SVG
  DeviceOptions device;
  bool json = false;
};
// A fault for one of the doctor's four servers, 1 to 4.
struct CellFault {
  uint32_t cell = 0;
  Fault fault = Fault::kCrash;
};
struct DoctorCommand {
  std::string model;                               // directory or Hub id
  std::string revision;                            // of a Hub id
  KvCacheDType fp8_dtype = KvCacheDType::kF8E4M3;  // of the cells with an FP8 cache
  uint32_t block_size = 16;
  DeviceOptions device;
  std::string host = "127.0.0.1";  // where the daemon is to listen
  uint16_t port = 8000;
  bool matrix = true;
  uint32_t timeout_s = 180;  // of a server's start, and of each request
  std::string log_dir;       // of the four servers' logs; empty: a new one for temporary files
  std::vector<CellFault> inject_faults;
  bool probe = false;  // open the device, test the FP8 codec on it, print JSON
  bool json = false;
};
// --help and --version: print and exit with 0.
struct PrintCommand {
  std::string text;
};

using Command = std::variant<ServeCommand, CheckCacheCommand, BenchCommand, PlanCommand,
                             CalibrateCommand, EvalCommand, DoctorCommand, PrintCommand>;

// kInvalidArgument for a flag, kConfigError for a file or variable.
Result<Command> ParseCommand(int argc, const char* const* argv);

// No "auto" below this line: what the engine is built from.
struct ResolvedOptions {
  std::filesystem::path model_dir;
  std::vector<std::string> served_model_names;
  LoadFormat load_format;
  DType dtype;
  KvCacheDType kv_dtype;
  bool enable_prefix_caching;
  uint32_t block_size;
  uint32_t num_blocks;  // usable
  uint64_t kv_pool_bytes;
  uint64_t kv_bytes_per_token;
  uint64_t kv_pool_tokens;
  uint64_t kv_pool_tokens_bf16;  // what BF16 would hold in the same bytes
  bool calculate_kv_scales;
  bool require_kv_scales;
  uint32_t calibrate_on_requests;        // 0: the cache is what it is from the start
  uint32_t num_calibration_blocks;       // BF16 ones in the pool's bytes, until so many were seen
  std::string kv_scales_output_dir;      // empty: they are not written
  bool kv_scales_per_head;               // of those found here
  std::string kv_scale_file;             // empty: the checkpoint's scales
  std::vector<uint32_t> kv_bf16_layers;  // ascending; FP8 only
  uint32_t max_model_len;                // at most model_max_len, and at most what the pool holds
  uint32_t model_max_len;                // the model's own
  uint32_t max_num_seqs;
  uint32_t max_num_batched_tokens;
  uint32_t max_num_logits_rows;
  uint32_t max_num_queued_reqs;
  SchedulingPolicy policy;
  uint64_t seed;
  HttpOptions http;

  // "kv_cache_dtype=fp8_e4m3 enable_prefix_caching=true ...": the one resolved-configuration line.
  std::string Summary() const;
  // The same as a JSON object, for GET /server_info, with what only the running process knows: the
  // cache as it is now, where its scales came from, and whether an answer's bits depend on its
  // request alone.
  std::string ServerInfoJson(const std::string& version, const std::string& device,
                             bool batch_invariant, const KvLayout& cache, uint32_t cache_blocks,
                             const std::string& kv_scale_source) const;
};

// The directory of the model asked for (a directory, or the config.json in it). With none named,
// the bundled model: beside the executable (../share/kvserve/models/default), else in the source
// tree it was built from. Nullopt: nothing here has that name, and it is one a model on the Hub can
// have ("org/name"). kNotFound.
Result<std::optional<std::filesystem::path>> FindModelDir(const std::string& model);

// Logits rows of a step: one for each sequence, and some for prompt logprobs.
uint32_t MaxLogitsRows(const SchedulerOptions& asked);

// What a device with memory of its own can give the KV cache, in bytes.
struct DeviceBudget {
  uint64_t total;
  uint64_t free;
  uint64_t model;  // what weights, activations and workspaces will take
};

// Cross-field checks; every error names the flag, the value and what is allowed. Reads the files
// that the options name (API keys, certificate) and, without `device`, the machine's free memory.
Result<ResolvedOptions> ResolveOptions(const ServerOptions& asked,
                                       const std::filesystem::path& model_dir,
                                       const ModelConfig& config,
                                       const std::optional<DeviceBudget>& device = std::nullopt);

// `kvserve plan`: the arithmetic without starting, as text or JSON.
Result<std::string> RunPlan(const PlanCommand& command, const ModelConfig& config);

}  // namespace kvs
