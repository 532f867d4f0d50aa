#include "model/decoder.h"

#include <fmt/format.h>

#include <cmath>
#include <string>
#include <utility>

#include "kvserve/check.h"
#include "model/decoder_weights.h"
#include "model/kv_cache.h"
#include "model/rope.h"
#include "model/step_inputs.h"

namespace kvs {
namespace {

// What a step computes, sized for the largest step. act is Backend::activation_dtype().
struct Activations {
  DeviceBuffer residual;  // [tokens, hidden] act: the stream that every branch adds to
  DeviceBuffer normed;    // [tokens, hidden] act: input of a branch
  DeviceBuffer branch;    // [tokens, hidden] act: output of a branch
  DeviceBuffer qkv;       // [tokens, (num_heads + 2 * num_kv_heads) * head_dim] act
  DeviceBuffer attended;  // [tokens, num_heads * head_dim] act
  DeviceBuffer gate_up;   // [tokens, 2 * intermediate] act
  DeviceBuffer gated;     // [tokens, intermediate] act
  DeviceBuffer gathered;  // [logits rows, hidden] act
  DeviceBuffer logits;    // [logits rows, vocab_size] float32

  // Of layers with experts; K of them for each token. No memory where there are none.
  DeviceBuffer router_logits;   // [tokens, num_experts] float32
  DeviceBuffer expert_ids;      // [tokens, K] uint32
  DeviceBuffer expert_weights;  // [tokens, K] float32
  DeviceBuffer expert_gate_up;  // [tokens, K, 2 * expert intermediate] act
  DeviceBuffer expert_gated;    // [tokens, K, expert intermediate] act
  DeviceBuffer expert_out;      // [tokens, K, hidden] act
};

Result<Activations> MakeActivations(const ModelConfig& config, const StepLimits& limits,
                                    Backend& backend) {
  const size_t tokens = limits.max_num_batched_tokens;
  const size_t rows = limits.max_num_logits_rows;
  const size_t act = SizeOf(backend.activation_dtype());
  const size_t hidden = config.hidden_size;
  const size_t q = size_t{config.num_heads} * config.head_dim;
  const size_t kv = size_t{config.num_kv_heads} * config.head_dim;
  const size_t inner = config.intermediate_size;
  const size_t pairs = tokens * config.experts.num_per_token;  // of a token and an expert
  const size_t expert_inner = config.experts.intermediate_size;
  Activations a;
  const std::pair<DeviceBuffer*, size_t> sizes[] = {
      {&a.residual, tokens * hidden * act},
      {&a.normed, tokens * hidden * act},
      {&a.branch, tokens * hidden * act},
      {&a.qkv, tokens * (q + 2 * kv) * act},
      {&a.attended, tokens * q * act},
      {&a.gate_up, tokens * 2 * inner * act},
      {&a.gated, tokens * inner * act},
      {&a.gathered, rows * hidden * act},
      {&a.logits, rows * config.vocab_size * sizeof(float)},
      {&a.router_logits, tokens * config.experts.num_experts * sizeof(float)},
      {&a.expert_ids, pairs * sizeof(uint32_t)},
      {&a.expert_weights, pairs * sizeof(float)},
      {&a.expert_gate_up, pairs * 2 * expert_inner * act},
      {&a.expert_gated, pairs * expert_inner * act},
      {&a.expert_out, pairs * hidden * act},
  };
  for (const auto& [buffer, bytes] : sizes) {
    if (bytes == 0) continue;
    auto allocated = backend.Allocate(bytes, "activations");
    if (!allocated) return tl::unexpected(allocated.error());
    *buffer = std::move(*allocated);
  }
  return a;
}

Result<DeviceBuffer> UploadRopeTable(const ModelConfig& config, uint32_t max_model_len,
                                     Backend& backend) {
  const auto table = MakeRopeTable(config.rope, config.head_dim, max_model_len);
  auto buffer = backend.Allocate(table.size() * sizeof(float), "rotary table");
  if (buffer) backend.CopyToDevice(buffer->data(), table.data(), table.size() * sizeof(float));
  return buffer;
}

class Decoder : public Model {
 public:
  Decoder(const ModelConfig& config, DecoderWeights weights, KvCache kv_cache, StepInputs inputs,
          Activations activations, DeviceBuffer cos_sin, Backend& backend)
      : config_(config),
        backend_(backend),
        weights_(std::move(weights)),
        kv_cache_(std::move(kv_cache)),
        in_(std::move(inputs)),
        act_(std::move(activations)),
        cos_sin_(std::move(cos_sin)),
        sm_scale_(1.0f / std::sqrt(static_cast<float>(config.head_dim))) {}

  float* Forward(const StepPlan& plan) override;
  bool is_pipelined() const override { return backend_.sampled_tokens() != nullptr; }
  void StartSample(std::span<const SampleRow> rows, std::span<SampleResult> results,
                   float* logits) override;
  void FinishSample(std::span<const SampleRow> rows, std::span<SampleResult> results) override;
  uint64_t num_saturated() const override { return num_saturated_; }
  DeviceTime device_time() const override { return backend_.device_time(); }
  const ModelConfig& config() const override { return config_; }
  const KvLayout& kv_layout() const override { return kv_cache_.layout(); }
  uint64_t weight_bytes() const override { return weights_.bytes; }
  KvCache& kv_cache() override { return kv_cache_; }

 private:
  // The step's operations, from token ids to logits.
  void Compute();
  // One layer as ops that do one thing each. `branch` is what is not yet added to the residual
  // stream, or null; the layer's own is returned.
  const void* ComputeLayer(uint32_t index, const void* branch);
  // The same where the linear layers normalize and add by themselves; nothing is left to add.
  void ComputeFusedLayer(uint32_t index);
  // residual += x (when x is set); normed = norm(residual).
  void Norm(const void* x, const DeviceBuffer& weight);
  // out = in * weight^T for the tokens of this step.
  void Project(const DeviceBuffer& in, const LinearWeight& weight, const DeviceBuffer& out,
               LinearFinish finish = LinearFinish::kStore);
  void Attend(const DecoderLayer& layer, uint32_t index);
  // branch = the layer's MLP of normed.
  void Mlp(const DecoderLayer& layer);
  void Experts(const DecoderLayer& layer);
  SampleParams ParamsOf(std::span<const SampleRow> rows, std::span<SampleResult> results,
                        float* logits) const;

  const ModelConfig config_;
  Backend& backend_;
  const DecoderWeights weights_;
  KvCache kv_cache_;
  StepInputs in_;
  const Activations act_;
  const DeviceBuffer cos_sin_;  // [max_model_len, head_dim] float32
  const float sm_scale_;
  uint64_t num_saturated_ = 0;
  const void* recorded_cache_ = nullptr;
  uint64_t record_epoch_ = 0;
};

float* Decoder::Forward(const StepPlan& plan) {
  in_.Fill(plan, backend_);
  backend_.BeginStep();
  const KvView first_layer = kv_cache_.View(0);
  if (first_layer.data != recorded_cache_) {  // the cache was replaced: other pointers from here on
    recorded_cache_ = first_layer.data;
    ++record_epoch_;
  }
  // Statistics are gathered for a while only.
  if (in_.record_key() != 0 && first_layer.stats.largest_bits == nullptr) {
    backend_.RunRecorded(record_epoch_ << 48 | in_.record_key(), [this] { Compute(); });
  } else {
    Compute();
  }
  return act_.logits.as<float>();
}

void Decoder::Compute() {
  const uint32_t n = in_.num_tokens();
  backend_.Embed({.table = weights_.embedding.get(),
                  .token_ids = in_.token_ids(),
                  .out = act_.residual.data(),
                  .num_tokens = n,
                  .sampled_rows = in_.sampled_rows(),
                  .sampled = backend_.sampled_tokens()});
  const void* branch = nullptr;  // not yet added to the residual
  const bool fused = config_.experts.num_experts == 0 && backend_.FusesLinear(n);
  for (uint32_t l = 0; l < config_.num_layers; ++l) {
    if (fused) {
      ComputeFusedLayer(l);
    } else {
      branch = ComputeLayer(l, branch);
    }
  }
  const uint32_t num_rows = in_.num_logits_rows();
  if (num_rows == 0) return;
  Norm(branch, weights_.final_norm);
  backend_.GatherRows({.in = act_.normed.data(),
                       .rows = in_.logits_rows(),
                       .out = act_.gathered.data(),
                       .num_rows = num_rows,
                       .dim = config_.hidden_size});
  backend_.Linear({.x = act_.gathered.data(),
                   .weight = weights_.output(),
                   .out = act_.logits.data(),
                   .num_rows = num_rows,
                   .out_is_f32 = true});
}

const void* Decoder::ComputeLayer(uint32_t index, const void* branch) {
  const DecoderLayer& layer = weights_.layers[index];
  Norm(branch, layer.input_norm);
  Project(act_.normed, *layer.qkv, act_.qkv);
  Attend(layer, index);
  Project(act_.attended, *layer.o, act_.branch);

  Norm(act_.branch.data(), layer.post_attention_norm);
  if (layer.experts.empty()) {
    Mlp(layer);
  } else {
    Experts(layer);
  }
  return act_.branch.data();
}

void Decoder::ComputeFusedLayer(uint32_t index) {
  const DecoderLayer& layer = weights_.layers[index];
  const auto linear = [&](const DeviceBuffer& in, const DeviceBuffer* norm,
                          const LinearWeight& weight, const DeviceBuffer& out,
                          LinearFinish finish) {
    backend_.Linear({.x = in.data(),
                     .weight = &weight,
                     .out = out.data(),
                     .num_rows = in_.num_tokens(),
                     .out_is_f32 = false,
                     .norm_weight = norm != nullptr ? norm->as<float>() : nullptr,
                     .norm_eps = config_.rms_norm_eps,
                     .finish = finish});
  };
  linear(act_.residual, &layer.input_norm, *layer.qkv, act_.qkv, LinearFinish::kStore);
  Attend(layer, index);
  linear(act_.attended, nullptr, *layer.o, act_.residual, LinearFinish::kAdd);
  linear(act_.residual, &layer.post_attention_norm, *layer.mlp.gate_up, act_.gated,
         LinearFinish::kSiluMul);
  linear(act_.gated, nullptr, *layer.mlp.down, act_.residual, LinearFinish::kAdd);
}

void Decoder::Norm(const void* x, const DeviceBuffer& weight) {
  backend_.AddRmsNorm({.residual = act_.residual.data(),
                       .x = x,
                       .weight = weight.as<float>(),
                       .out = act_.normed.data(),
                       .num_rows = in_.num_tokens(),
                       .dim = config_.hidden_size,
                       .eps = config_.rms_norm_eps});
}

void Decoder::Project(const DeviceBuffer& in, const LinearWeight& weight, const DeviceBuffer& out,
                      LinearFinish finish) {
  backend_.Linear({.x = in.data(),
                   .weight = &weight,
                   .out = out.data(),
                   .num_rows = in_.num_tokens(),
                   .out_is_f32 = false,
                   .finish = finish});
}

void Decoder::Mlp(const DecoderLayer& layer) {
  const LinearWeight& gate_up = *layer.mlp.gate_up;
  if (backend_.FusesSiluMul(gate_up, in_.num_tokens())) {
    Project(act_.normed, gate_up, act_.gated, LinearFinish::kSiluMul);
  } else {
    Project(act_.normed, gate_up, act_.gate_up);
    backend_.SiluMul({.gate_up = act_.gate_up.data(),
                      .out = act_.gated.data(),
                      .num_rows = in_.num_tokens(),
                      .dim = config_.intermediate_size});
  }
  Project(act_.gated, *layer.mlp.down, act_.branch);
}

void Decoder::Experts(const DecoderLayer& layer) {
  const ExpertsConfig& experts = config_.experts;
  const uint32_t n = in_.num_tokens();
  const uint32_t num_pairs = n * experts.num_per_token;
  backend_.Linear({.x = act_.normed.data(),
                   .weight = layer.router.get(),
                   .out = act_.router_logits.data(),
                   .num_rows = n,
                   .out_is_f32 = true});
  backend_.RouteExperts({.logits = act_.router_logits.as<float>(),
                         .expert_ids = act_.expert_ids.as<uint32_t>(),
                         .expert_weights = act_.expert_weights.as<float>(),
                         .num_rows = n,
                         .num_experts = experts.num_experts,
                         .top_k = experts.num_per_token,
                         .normalize = experts.normalize});
  backend_.ExpertLinear({.x = act_.normed.data(),
                         .experts = layer.expert_gate_up.data(),
                         .expert_ids = act_.expert_ids.as<uint32_t>(),
                         .out = act_.expert_gate_up.data(),
                         .num_rows = num_pairs,
                         .rows_per_x = experts.num_per_token,
                         .num_experts = experts.num_experts});
  backend_.SiluMul({.gate_up = act_.expert_gate_up.data(),
                    .out = act_.expert_gated.data(),
                    .num_rows = num_pairs,
                    .dim = experts.intermediate_size});
  backend_.ExpertLinear({.x = act_.expert_gated.data(),
                         .experts = layer.expert_down.data(),
                         .expert_ids = act_.expert_ids.as<uint32_t>(),
                         .out = act_.expert_out.data(),
                         .num_rows = num_pairs,
                         .rows_per_x = 1,
                         .num_experts = experts.num_experts});
  backend_.CombineExperts({.in = act_.expert_out.data(),
                           .expert_weights = act_.expert_weights.as<float>(),
                           .out = act_.branch.data(),
                           .num_rows = n,
                           .top_k = experts.num_per_token,
                           .dim = config_.hidden_size});
}

void Decoder::Attend(const DecoderLayer& layer, uint32_t index) {
  const KvView kv = kv_cache_.View(index);
  // K and V are written first, then read back as the cache stores them, so that a token sees the
  // same numbers whether its context was computed in this step or long ago.
  const RopeKvStoreParams rope = {.qkv = act_.qkv.data(),
                                  .positions = in_.positions(),
                                  .slot_mapping = in_.slot_mapping(),
                                  .cos_sin = cos_sin_.as<float>(),
                                  .kv = kv,
                                  .num_saturated = &num_saturated_,
                                  .num_tokens = in_.num_tokens(),
                                  .num_heads = config_.num_heads,
                                  .qkv_bias = layer.qkv_bias.as<float>(),
                                  .q_norm = layer.q_norm.as<float>(),
                                  .k_norm = layer.k_norm.as<float>(),
                                  .norm_eps = config_.rms_norm_eps};
  const bool fused = in_.may_fuse_rope() && kv.stats.largest_bits == nullptr;
  if (!fused) backend_.RopeKvStore(rope);
  backend_.PagedAttention({.qkv = act_.qkv.data(),
                           .out = act_.attended.data(),
                           .kv = kv,
                           .block_tables = in_.block_tables(),
                           .query_start_loc = in_.query_start_loc(),
                           .seq_lens = in_.seq_lens(),
                           .num_seqs = in_.num_seqs(),
                           .num_tokens = in_.num_tokens(),
                           .num_heads = config_.num_heads,
                           .max_blocks_per_seq = in_.max_blocks_per_seq(),
                           .sm_scale = sm_scale_,
                           .window = config_.Layer(index).window,
                           .rope = fused ? &rope : nullptr});
}

SampleParams Decoder::ParamsOf(std::span<const SampleRow> rows, std::span<SampleResult> results,
                               float* logits) const {
  KVS_CHECK_OP(results.size(), >=, rows.size());
  return {.logits = logits,
          .rows = rows.data(),
          .results = results.data(),
          .num_rows = static_cast<uint32_t>(rows.size()),
          .vocab_size = config_.vocab_size};
}

void Decoder::StartSample(std::span<const SampleRow> rows, std::span<SampleResult> results,
                          float* logits) {
  backend_.StartSample(ParamsOf(rows, results, logits));
}

void Decoder::FinishSample(std::span<const SampleRow> rows, std::span<SampleResult> results) {
  backend_.FinishSample(ParamsOf(rows, results, act_.logits.as<float>()));
}

}  // namespace

Result<std::unique_ptr<Model>> MakeDecoder(const ModelConfig& config,
                                           const ModelLoadOptions& options,
                                           const ExpertNames& expert_names, WeightSource& weights,
                                           Backend& backend) {
  if (config.experts.num_experts > 0 && !backend.has_experts()) {
    return Error(
        Code::kUnavailable,
        fmt::format("architecture '{}' has experts, which this device ({}) cannot compute; "
                    "use --device cpu",
                    config.architecture, backend.Describe()));
  }
  const StepLimits& limits = options.limits;
  const KvLayout layout{config.num_layers, config.num_kv_heads,
                        config.head_dim,   limits.block_size,
                        options.kv_dtype,  static_cast<uint32_t>(options.kv_bf16_layers.size())};
  KVS_RETURN_IF_ERROR(backend.CheckSupport(layout, config.num_heads));
  // The small and the likely to fail first: reading weights takes longest.
  auto kv_cache = KvCache::Make(layout, options.num_blocks, options.kv_bf16_layers, backend);
  if (!kv_cache) return tl::unexpected(kv_cache.error());
  auto inputs =
      StepInputs::Make(limits, {config.vocab_size, options.num_blocks, config.Window()}, backend);
  if (!inputs) return tl::unexpected(inputs.error());
  auto activations = MakeActivations(config, limits, backend);
  if (!activations) return tl::unexpected(activations.error());
  auto cos_sin = UploadRopeTable(config, limits.max_model_len, backend);
  if (!cos_sin) return tl::unexpected(cos_sin.error());
  auto loaded = LoadDecoderWeights(config, options, expert_names, weights, backend);
  if (!loaded) return tl::unexpected(loaded.error());
  return std::make_unique<Decoder>(config, std::move(*loaded), std::move(*kv_cache),
                                   std::move(*inputs), std::move(*activations), std::move(*cos_sin),
                                   backend);
}

}  // namespace kvs
