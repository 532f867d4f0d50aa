// Whole steps of a model of the shape of Llama-3.1-8B with random weights: milliseconds on the
// host's clock, sampling included, with each step planned while the one before it runs.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <memory>

#include "gpu/bench/bench.h"
#include "gpu/gpu_backend.h"
#include "model/model.h"

namespace kvs::gpu {
namespace {

constexpr uint32_t kMaxTokens = 8192;  // of a step
constexpr uint32_t kPromptTokens = 32768;
constexpr uint32_t kCacheTokens = 69632;
constexpr uint32_t kLargeCacheTokens = 64 * 8320;
constexpr size_t kLargeBytes = size_t{88} << 30;  // with that cache in BF16
constexpr uint32_t kBlockTokens = 16;
constexpr uint32_t kMaxSeqs = 64;

ModelConfig ShapeOfLlama() {
  ModelConfig config;
  config.architecture = "LlamaForCausalLM";
  config.vocab_size = 128256;
  config.hidden_size = 4096;
  config.intermediate_size = 14336;
  config.num_layers = 32;
  config.num_heads = 32;
  config.num_kv_heads = 8;
  config.head_dim = 128;
  config.max_position_embeddings = 131072;
  config.rope.theta = 500000.0;
  return config;
}

class StepModel {
 public:
  StepModel(KvCacheDType dtype, uint32_t cache_tokens) : backend_(std::move(*OpenGpuBackend({}))) {
    ModelLoadOptions options;
    options.load_format = LoadFormat::kDummy;
    options.kv_dtype = dtype;
    options.num_blocks = cache_tokens / kBlockTokens;
    options.limits = {.max_num_seqs = kMaxSeqs,
                      .max_num_batched_tokens = kMaxTokens,
                      .max_model_len = 40960,
                      .max_num_logits_rows = kMaxSeqs,
                      .block_size = kBlockTokens};
    auto model = Model::Load(ShapeOfLlama(), options, *backend_);
    KVS_CHECK(model.has_value());
    model_ = std::move(*model);
    for (uint32_t i = 1; i <= options.num_blocks; ++i) blocks_.push_back(BlockId{i});
    std::mt19937_64 random(1);
    std::shuffle(blocks_.begin(), blocks_.end(), random);
    for (uint32_t i = 0; i < kPromptTokens; ++i) {
      tokens_.push_back({static_cast<uint32_t>(random() % ShapeOfLlama().vocab_size)});
    }
    // Keys and values everywhere, for sequences that are decoded without having been prefilled.
    for (size_t first = 0; first < blocks_.size(); first += kMaxTokens / kBlockTokens) {
      const size_t count = std::min<size_t>(kMaxTokens / kBlockTokens, blocks_.size() - first);
      Run({{std::span(tokens_).first(count * kBlockTokens), 0,
            std::span(blocks_).subspan(first, count), 1}});
      Wait();
    }
  }

  // Of a prompt of so many tokens, in chunks of kMaxTokens.
  double PrefillMs(uint32_t num_tokens) {
    std::vector<double> times;
    for (int round = 0; round < 4; ++round) {
      const auto start = std::chrono::steady_clock::now();
      for (uint32_t done = 0; done < num_tokens; done += kMaxTokens) {
        const uint32_t count = std::min(kMaxTokens, num_tokens - done);
        Run({{std::span(tokens_).subspan(done, count), done, blocks_, 1}});
        Wait();
      }
      if (round > 0) times.push_back(MsSince(start));
    }
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }

  // Of a step that gives each of `num_seqs` sequences of `seq_len` tokens one more.
  double DecodeMs(uint32_t num_seqs, uint32_t seq_len) {
    constexpr uint32_t kWarmUp = 8, kSteps = 64;
    const uint32_t blocks_per_seq = (seq_len + kWarmUp + kSteps) / kBlockTokens + 1;
    KVS_CHECK_OP(num_seqs * blocks_per_seq, <=, blocks_.size());
    std::chrono::steady_clock::time_point start;
    for (uint32_t step = 0; step < kWarmUp + kSteps; ++step) {
      std::vector<ScheduledSlice> slices;
      for (uint32_t i = 0; i < num_seqs; ++i) {
        const auto table = std::span(blocks_).subspan(i * blocks_per_seq, blocks_per_seq);
        const auto token = step > 0 ? std::span(&kNoToken, 1) : std::span(tokens_).subspan(i, 1);
        slices.push_back({token, seq_len + step, table, 1});
        if (step > 0) slices.back().sampled_row = i;
      }
      Run(std::move(slices));
      if (step + 1 == kWarmUp) start = std::chrono::steady_clock::now();
    }
    const double ms = MsSince(start);  // to the end of the last step but one, as at the start
    Wait();
    return ms / kSteps;
  }

 private:
  static double MsSince(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
        .count();
  }

  // Starts a step and waits for the one before, if it has not been waited for.
  void Run(std::vector<ScheduledSlice> slices) {
    StepPlan plan;
    plan.slices = std::move(slices);
    for (const ScheduledSlice& slice : plan.slices) {
      plan.num_tokens += static_cast<uint32_t>(slice.token_ids.size());
      plan.num_logits_rows += slice.num_logits_rows;
    }
    float* const logits = model_->Forward(plan);
    Wait();
    rows_.assign(plan.num_logits_rows, {});
    for (uint32_t i = 0; i < plan.num_logits_rows; ++i) {
      rows_[i].logits_row = i;
      rows_[i].top_p = 1.0f;
      rows_[i].repetition_penalty = 1.0f;
      rows_[i].draw = true;
      rows_[i].given = kNoToken;
      rows_[i].num_logprobs = -1;
    }
    results_.resize(rows_.size());
    model_->StartSample(rows_, results_, logits);
    runs_ = true;
  }
  void Wait() {
    if (runs_) model_->FinishSample(rows_, results_);
    runs_ = false;
  }

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  std::vector<BlockId> blocks_;  // in no order
  std::vector<TokenId> tokens_;
  std::vector<SampleRow> rows_;
  std::vector<SampleResult> results_;
  bool runs_ = false;
};

struct StepSize {
  const char* what;
  uint32_t num_seqs, seq_len;

  constexpr bool IsLarge() const { return uint64_t{num_seqs} * seq_len > kCacheTokens; }
};
// The large one last.
constexpr StepSize kSizes[] = {{"prefill", 1, 1024}, {"prefill", 1, 8192}, {"prefill", 1, 32768},
                               {"decode", 1, 1024},  {"decode", 1, 8192},  {"decode", 1, 32768},
                               {"decode", 2, 1024},  {"decode", 8, 1024},  {"decode", 8, 8192},
                               {"decode", 64, 1000}, {"decode", 64, 8192}};

}  // namespace

void StepBench(const Ceilings&) {
  const bool has_large = TestLaunch(DType::kBf16).facts->free_bytes >= kLargeBytes;
  std::array<std::vector<double>, 2> ms;
  constexpr KvCacheDType kTypes[] = {KvCacheDType::kBf16, KvCacheDType::kF8E4M3};
  for (size_t i = 0; i < ms.size(); ++i) {
    StepModel model(kTypes[i], has_large ? kLargeCacheTokens : kCacheTokens);
    for (const StepSize& size : kSizes) {
      if (size.IsLarge() && !has_large) continue;
      const bool is_decode = std::string_view(size.what) == "decode";
      ms[i].push_back(is_decode ? model.DecodeMs(size.num_seqs, size.seq_len)
                                : model.PrefillMs(size.seq_len));
    }
  }
  std::printf("\nwhole steps of a model of the shape of Llama-3.1-8B, chunks of %u tokens\n",
              kMaxTokens);
  std::printf("%8s %5s %6s | %9s %9s | %8s\n", "", "seqs", "tokens", "BF16 ms", "FP8 ms",
              "FP8/BF16");
  for (size_t i = 0; i < std::size(kSizes); ++i) {
    std::printf("%8s %5u %6u | ", kSizes[i].what, kSizes[i].num_seqs, kSizes[i].seq_len);
    if (i >= ms[0].size()) {
      std::printf("needs %zu GiB that are free\n", kLargeBytes >> 30);
      continue;
    }
    std::printf("%9.3f %9.3f | %8.3f\n", ms[0][i], ms[1][i], ms[1][i] / ms[0][i]);
  }
}

}  // namespace kvs::gpu
