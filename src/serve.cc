#include "serve.h"

#include <fmt/format.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>

#include "base/log.h"
#include "base/metrics.h"
#include "base/progress.h"
#include "config/config.h"
#include "config/environment.h"
#include "device/kernel_driver.h"
#include "device/open_backend.h"
#include "doctor/isolation_guard.h"
#include "engine/engine.h"
#include "faulty_runner.h"
#include "http/chat_settings.h"
#include "http/server.h"
#include "hub/model_source.h"
#include "kvserve/backend.h"
#include "model/kv_cache.h"
#include "model/model.h"
#include "model/request_calibration.h"
#include "model/warm_up.h"
#include "shutdown_signals.h"
#include "tokenize/tokenizer.h"

namespace kvs {
namespace {

using std::chrono::milliseconds;

uint64_t RandomSeed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

StepLimits LimitsOf(const ResolvedOptions& options) {
  return {.max_num_seqs = options.max_num_seqs,
          .max_num_batched_tokens = options.max_num_batched_tokens,
          .max_model_len = options.max_model_len,
          .max_num_logits_rows = options.max_num_logits_rows,
          .block_size = options.block_size};
}

// What the KV pool can have of a device's own memory.
std::optional<DeviceBudget> BudgetOf(const ServerOptions& asked, const ModelConfig& config,
                                     const Backend& backend) {
  const auto memory = backend.device_memory();
  if (!memory) return std::nullopt;
  const StepLimits limits = {
      .max_num_seqs = asked.scheduler.max_num_seqs,
      .max_num_batched_tokens = asked.scheduler.max_num_batched_tokens,
      .max_model_len = asked.model.max_model_len.value_or(config.max_position_embeddings),
      .max_num_logits_rows = MaxLogitsRows(asked.scheduler),
      .block_size = asked.cache.block_size};
  const bool fp8 = config.fp8_linear && config.fp8_linear->all_layers &&
                   backend.WhyNoFp8(config.hidden_size, config.hidden_size).empty() &&
                   backend.WhyNoFp8(config.hidden_size, config.intermediate_size).empty();
  return DeviceBudget{
      memory->total, memory->free,
      Model::DeviceBytes(config, limits, asked.model.dtype.value_or(config.checkpoint_dtype), fp8)};
}

Result<std::unique_ptr<Model>> LoadModel(const ResolvedOptions& options, const ModelConfig& config,
                                         Backend& backend) {
  ProgressBar progress("Loading weights");
  ModelLoadOptions load;
  load.model_dir = options.model_dir;
  load.load_format = options.load_format;
  load.dtype = options.dtype;
  load.seed = options.seed;
  load.kv_dtype = options.kv_dtype;
  load.num_blocks = options.num_blocks;
  load.calculate_kv_scales = options.calculate_kv_scales;
  load.kv_scales_per_head = options.kv_scales_per_head;
  load.kv_scales_later = options.calibrate_on_requests > 0;
  load.require_kv_scales = options.require_kv_scales;
  load.kv_scale_file = options.kv_scale_file;
  load.kv_bf16_layers = options.kv_bf16_layers;
  load.limits = LimitsOf(options);
  load.progress = [&progress](uint64_t done, uint64_t total) { progress.Update(done, total); };
  return Model::Load(config, load, backend);
}

// What the cache is, for HTTP threads: it changes when --calibrate-on-requests has seen enough.
class CacheInfo {
 public:
  explicit CacheInfo(const KvCache& cache) { Set(cache); }

  void Set(const KvCache& cache) {
    const std::lock_guard lock(mutex_);
    facts_ = {cache.layout(), cache.num_blocks(), cache.Identity(),
              std::string(ToString(cache.scales().source))};
  }
  KvCacheFacts facts() const {
    const std::lock_guard lock(mutex_);
    return facts_;
  }

 private:
  mutable std::mutex mutex_;
  KvCacheFacts facts_{};  // guarded by mutex_
};

// Null unless asked for.
Result<std::unique_ptr<RequestCalibration>> BeginCalibration(const ResolvedOptions& options,
                                                             const ModelConfig& config,
                                                             Model& model, Backend& backend) {
  if (options.calibrate_on_requests == 0) return nullptr;
  return RequestCalibration::Begin({.num_requests = options.calibrate_on_requests,
                                    .num_bf16_blocks = options.num_calibration_blocks,
                                    .bf16_layers = options.kv_bf16_layers,
                                    .per_head = options.kv_scales_per_head,
                                    .model_dir = options.model_dir,
                                    .output_dir = options.kv_scales_output_dir,
                                    .checkpoint_dtype = config.checkpoint_dtype},
                                   model, backend);
}

// What the engine calls once enough requests ended. The arguments outlive the engine.
std::function<std::optional<KvCacheFacts>()> SwitchOf(RequestCalibration* calibration, Model& model,
                                                      CacheInfo& cache) {
  if (calibration == nullptr) return {};
  return [=, &model, &cache]() -> std::optional<KvCacheFacts> {
    if (!calibration->Switch()) return std::nullopt;
    cache.Set(model.kv_cache());
    return cache.facts();
  };
}

EngineOptions EngineOptionsOf(const ResolvedOptions& options, const ModelConfig& config,
                              const KvCacheFacts& cache, std::optional<Fault> fault) {
  EngineOptions engine;
  engine.scheduler.limits = LimitsOf(options);
  engine.scheduler.num_blocks = cache.num_blocks;
  engine.scheduler.enable_prefix_caching = options.enable_prefix_caching && fault != Fault::kNoHit;
  engine.scheduler.window = config.Window();
  engine.scheduler.policy = options.policy;
  engine.scheduler.eos_token_ids = config.eos_token_ids;
  engine.scheduler.hash_seed = RandomSeed();
  engine.scheduler.kv_identity = cache.identity;
  engine.kv_scale_source = cache.scale_source;
  engine.vocab_size = config.vocab_size;
  engine.generation = config.generation;
  engine.kv_layout = cache.layout;
  engine.max_num_queued_reqs = options.max_num_queued_reqs;
  engine.num_requests_before_switch = options.calibrate_on_requests;
  return engine;
}

// The template that was asked for has to work; without the model's own, only chat is refused.
Result<ChatSettings> ChatSettingsOf(const ChatOptions& asked, const std::filesystem::path& model) {
  ChatSettings settings{asked, nullptr, {}};
  if (asked.enable_auto_tool_choice && !asked.tool_call_parser) {
    return Error(Code::kInvalidArgument,
                 "--enable-auto-tool-choice: needs --tool-call-parser llama3_json or hermes",
                 "--enable-auto-tool-choice");
  }
  auto loaded = ChatTemplate::Load(model, asked.chat_template);
  if (!loaded && !asked.chat_template.empty()) {
    return tl::unexpected(loaded.error().WithContext("--chat-template"));
  }
  if (!loaded) {
    settings.why_no_template =
        "this model's chat template cannot be used: " + loaded.error().message() +
        "; --chat-template takes another";
    LOG_WARNING("/v1/chat/completions is refused: {}", settings.why_no_template);
  } else if (*loaded == nullptr) {
    settings.why_no_template = "this model has no chat template; --chat-template takes one";
    LOG_INFO("/v1/chat/completions is refused: {}", settings.why_no_template);
  } else {
    LOG_INFO("chat template: {}", (*loaded)->origin());
    settings.chat_template = *std::move(loaded);
  }
  return settings;
}

ServerContext ContextOf(const ResolvedOptions& options, const DeviceOptions& device,
                        const Backend& backend, const CacheInfo& cache, ChatSettings chat) {
  ServerContext context;
  context.chat = std::move(chat);
  context.options = options.http;
  context.served_model_names = options.served_model_names;
  context.model_root = options.model_dir.string();
  context.version = KVS_VERSION;
  const bool batch_invariant = backend.Info().kind == DeviceKind::kCpu || device.batch_invariant;
  context.server_info = [&options, name = backend.Describe(), batch_invariant, &cache] {
    const KvCacheFacts facts = cache.facts();
    return options.ServerInfoJson(KVS_VERSION, name, batch_invariant, facts.layout,
                                  facts.num_blocks, facts.scale_source);
  };
  context.request_seed = options.seed != 0 ? options.seed : RandomSeed();
  return context;
}

// What requests get that leave these open, where the model says other than OpenAI.
void LogGenerationDefaults(const GenerationDefaults& defaults) {
  std::string said;
  const auto say = [&](const char* name, const auto& value) {
    if (value) said += fmt::format(" {}={}", name, *value);
  };
  say("temperature", defaults.temperature);
  say("top_p", defaults.top_p);
  say("top_k", defaults.top_k);
  say("min_p", defaults.min_p);
  say("repetition_penalty", defaults.repetition_penalty);
  say("max_new_tokens", defaults.max_new_tokens);
  if (!said.empty())
    LOG_INFO("defaults of requests, from generation_config.json or flags:{}", said);
}

void LogPool(const ResolvedOptions& options) {
  LOG_INFO("KV cache: {} bytes per token, pool of {} bytes holds {} tokens; BF16 would hold {}",
           options.kv_bytes_per_token, options.kv_pool_bytes, options.kv_pool_tokens,
           options.kv_pool_tokens_bf16);
}

// FP8 with prefix caching starts on RDNA3 only where the doctor has seen it work, or by the user's
// will.
Result<void> GuardPair(const ServerOptions& asked, const ResolvedOptions& options,
                       const DeviceInfo& info) {
  const IsolationQuestion question = {.info = WithSimulation(info, asked.device),
                                      .kernel_driver = KernelDriverVersion(info.kind),
                                      .version = KVS_VERSION,
                                      .kv_dtype = options.kv_dtype,
                                      .enable_prefix_caching = options.enable_prefix_caching,
                                      .mode = IsolationModeOf(asked.device),
                                      .model = asked.model.model};
  Result<void> allowed = CheckIsolation(question, ReadStateDir(ProcessEnvironment()));
  if (allowed || !asked.device.skip_isolation_check) return allowed;
  LOG_WARNING("started by --skip-isolation-check all the same: {}", allowed.error().message());
  return {};
}

// Waits for SIGTERM or SIGINT, then lets what is in flight finish: until it has, the time is over,
// or a second signal comes.
void DrainOnSignal(uint32_t timeout_s, ShutdownSignals& signals, HttpServer& http, Engine& engine) {
  const std::string name = signals.WaitFirst();
  LOG_INFO("{}: draining {} requests, for at most {} s", name, http.num_active_requests(),
           timeout_s);
  http.BeginDrain();
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(timeout_s);
  while (http.num_active_requests() > 0 && std::chrono::steady_clock::now() < deadline &&
         !signals.WaitSecond(milliseconds(20))) {
  }
  if (http.num_active_requests() > 0) {
    LOG_WARNING("aborting {} requests in flight", http.num_active_requests());
  }
  engine.BeginStop();
  engine.Shutdown();
  http.Stop();
}

// Everything that exists only once the options are known.
Result<void> Run(const ServerOptions& asked, ShutdownSignals& signals, HttpServer& http) {
  auto source = ModelSource::Open(asked.model.model, asked.model.revision, ModelFiles::kDescription,
                                  ProcessEnvironment());
  if (!source) return tl::unexpected(source.error());
  if (!source->Describe().empty()) LOG_INFO("model: {}", source->Describe());
  const auto config = ReadModelConfig(source->dir(), asked.model);
  if (!config) return tl::unexpected(config.error());
  const auto backend = OpenBackend({.device = asked.device,
                                    .dtype = asked.model.dtype.value_or(config->checkpoint_dtype),
                                    .cache_dir = CacheDirOf(ProcessEnvironment())});
  if (!backend) return tl::unexpected(backend.error());
  LOG_INFO("device: {}", (*backend)->Describe());
  const auto options =
      ResolveOptions(asked, source->dir(), *config, BudgetOf(asked, *config, **backend));
  if (!options) return tl::unexpected(options.error());
  LOG_INFO("kvserve {} resolved configuration: {}", KVS_VERSION, options->Summary());
  LogPool(*options);
  KVS_RETURN_IF_ERROR(GuardPair(asked, *options, (*backend)->Info()));
  LogGenerationDefaults(config->generation);

  const auto tokenizer = Tokenizer::Load(source->dir());
  if (!tokenizer) return tl::unexpected(tokenizer.error());
  auto chat = ChatSettingsOf(asked.chat, source->dir());
  if (!chat) return tl::unexpected(chat.error());
  if (options->load_format != LoadFormat::kDummy) KVS_RETURN_IF_ERROR(source->FetchWeights());
  const auto started = std::chrono::steady_clock::now();
  const auto model = LoadModel(*options, *config, **backend);
  if (!model) return tl::unexpected(model.error());
  LOG_INFO("weights: {} bytes as {} in {:.2f} s", (*model)->weight_bytes(),
           ToString(options->dtype),
           std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count());
  if ((*model)->is_pipelined()) WarmUp(LimitsOf(*options), **model);

  const auto calibration = BeginCalibration(*options, *config, **model, **backend);
  if (!calibration) return tl::unexpected(calibration.error());
  CacheInfo cache((*model)->kv_cache());

  MetricsRegistry metrics({{"model_name", options->served_model_names.front()}, {"engine", "0"}});
  std::optional<FaultyRunner> faulty;
  if (asked.device.inject_fault) {
    LOG_WARNING("--inject-fault: this server is made to fail; it is for tests alone");
    faulty.emplace(**model, *asked.device.inject_fault, config->vocab_size);
  }
  StepRunner& runner = faulty ? static_cast<StepRunner&>(*faulty) : **model;
  EngineOptions engine_options =
      EngineOptionsOf(*options, *config, cache.facts(), asked.device.inject_fault);
  engine_options.switch_kv_cache = SwitchOf(calibration->get(), **model, cache);
  Engine engine(engine_options, runner, metrics);
  // Beyond this point nothing is configured, and no weight, pool or step buffer is allocated.
  Result<void> served;
  signals.EnterServing();
  std::thread server([&] {
    served = http.Serve(ContextOf(*options, asked.device, **backend, cache, *std::move(chat)),
                        **tokenizer, engine, metrics);
    if (!served) signals.Raise();
  });
  LOG_INFO("ready: {}://{}:{}/v1", options->http.ssl_certfile.empty() ? "http" : "https",
           options->http.host, http.port());
  DrainOnSignal(options->http.shutdown_timeout_s, signals, http, engine);
  server.join();
  LOG_INFO("stopped");
  return served;
}

}  // namespace

int Serve(const ServerOptions& asked) {
  InitLog(asked.log);
  ShutdownSignals signals;
  const auto http = HttpServer::Bind(asked.http);
  const Result<void> done = http ? Run(asked, signals, **http) : tl::unexpected(http.error());
  if (done) return 0;
  LOG_ERROR("{}", done.error().message());
  return ExitCodeOf(done.error().code());
}

}  // namespace kvs
