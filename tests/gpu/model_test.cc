// The bundled model on the device against the CPU backend: the same steps, the logits side by side.
#include <filesystem>
#include <string>

#include "gpu/gpu_backend.h"
#include "gpu/gpu_test_util.h"
#include "unit/model/model_runner.h"

namespace kvs::gpu {
namespace {

std::filesystem::path ModelDir() {
  // Where the tests run is not where they were built.
  const std::filesystem::path here = "models/default";
  return std::filesystem::exists(here) ? here
                                       : std::filesystem::path(KVS_SOURCE_DIR) / "models/default";
}

struct Mode {
  const char* name;
  bool batch_invariant;
  bool enforce_eager;
};
constexpr Mode kModes[] = {
    {"graphs", false, false}, {"eager", false, true}, {"batch-invariant", true, false}};

ModelLoadOptions Options(KvCacheDType kv_dtype) {
  return ModelRunner::Options(ModelDir(), DType::kBf16, kv_dtype);
}

std::unique_ptr<ModelRunner> OnDevice(const ModelConfig& config, const ModelLoadOptions& options,
                                      const Mode& mode) {
  GpuBackendOptions gpu;
  gpu.batch_invariant = mode.batch_invariant;
  gpu.enforce_eager = mode.enforce_eager;
  auto backend = OpenGpuBackend(gpu);
  if (!backend) ADD_FAILURE() << backend.error().message();
  return std::make_unique<ModelRunner>(config, options, std::move(*backend));
}

std::unique_ptr<ModelRunner> OnDevice(KvCacheDType kv_dtype, const Mode& mode) {
  return OnDevice(*ReadModelConfig(ModelDir()), Options(kv_dtype), mode);
}

std::vector<TokenId> Tokens(uint32_t count, uint32_t seed) {
  Random random(seed);
  std::vector<TokenId> tokens;
  for (uint32_t i = 0; i < count; ++i) tokens.push_back({random.Below(4000)});
  return tokens;
}

// Three sequences: prefilled in two chunks, the second chunk together with decode steps of the
// first sequence, then decoded together. All logits of every step.
Logits RunSteps(ModelRunner& runner) {
  TestSequence a = runner.NewSequence(Tokens(60, 1));
  TestSequence b = runner.NewSequence(Tokens(150, 2));
  TestSequence c = runner.NewSequence(Tokens(40, 3));
  Logits all;
  const auto run = [&](std::vector<ScheduledSlice> slices) {
    for (auto& row : runner.Run(std::move(slices))) all.push_back(std::move(row));
  };
  run({runner.Slice(a, 40, 40), runner.Slice(b, 70, 3)});
  run({runner.Slice(a, 1, 1), runner.Slice(b, 60, 1), runner.Slice(c, 20, 1)});
  // Few tokens of each: the device takes them one by one.
  run({runner.Slice(a, 1, 1), runner.Slice(b, 4, 2), runner.Slice(c, 2, 1)});
  for (int i = 0; i < 12; ++i) {
    run({runner.Slice(a, 1, 1), runner.Slice(b, 1, 1), runner.Slice(c, 1, 1)});
  }
  return all;
}

// Of the rows of one run beside another's.
struct RowErrors {
  double median = 0, largest = 0;

  RowErrors(const Logits& got, const Logits& want) {
    KVS_CHECK_OP(got.size(), ==, want.size());
    std::vector<double> errors;
    for (size_t row = 0; row < want.size(); ++row) {
      errors.push_back(RelativeRms(got[row], want[row]));
    }
    std::sort(errors.begin(), errors.end());
    median = errors[errors.size() / 2];
    largest = errors.back();
  }
  void Print(const char* mode, const std::string& what) const {
    std::printf("%-15s %-11s relative error of a row: median %.4f, largest %.4f\n", mode,
                what.c_str(), median, largest);
  }
};

TEST(GpuModel, LogitsAreThoseOfTheCpu) {
  for (const KvCacheDType kv_dtype : {KvCacheDType::kBf16, KvCacheDType::kF8E4M3}) {
    const ModelConfig config = *ReadModelConfig(ModelDir());
    ModelRunner cpu(config, Options(kv_dtype));
    const Logits want = RunSteps(cpu);
    for (const Mode& mode : kModes) {
      const auto device = OnDevice(kv_dtype, mode);
      const Logits got = RunSteps(*device);
      // Activations are bfloat16 here and float32 there; an FP8 code that rounds the other way
      // is a difference of an eighth in one element.
      const RowErrors errors(got, want);
      errors.Print(mode.name, std::string(ToString(kv_dtype)));
      EXPECT_LT(errors.median, IsFp8(kv_dtype) ? 5e-2 : 2e-2) << mode.name;
      EXPECT_LT(errors.largest, IsFp8(kv_dtype) ? 0.15 : 8e-2) << mode.name;
    }
  }
}

TEST(GpuModel, BatchInvariantRowsDoNotDependOnChunksNorCompany) {
  for (const KvCacheDType kv_dtype : {KvCacheDType::kBf16, KvCacheDType::kF8E4M3}) {
    const auto device = OnDevice(kv_dtype, kModes[2]);
    TestSequence whole = device->NewSequence(Tokens(200, 5));
    const Logits want = device->RunAll(whole, 200);
    for (const uint32_t chunk : {1u, 7u, 64u}) {
      TestSequence again = device->NewSequence(Tokens(200, 5));
      EXPECT_EQ(device->RunAll(again, chunk), want) << ToString(kv_dtype) << " chunks of " << chunk;
    }
    TestSequence other = device->NewSequence(Tokens(90, 6));
    TestSequence again = device->NewSequence(Tokens(200, 5));
    Logits rows = device->Run({device->Slice(other, 90, 1), device->Slice(again, 200, 200)});
    rows.erase(rows.begin());
    EXPECT_EQ(rows, want) << ToString(kv_dtype) << " beside another";
  }
}

SampleRow GreedyRow(uint32_t logits_row) {
  SampleRow row{};
  row.logits_row = logits_row;
  row.top_p = 1.0f;
  row.repetition_penalty = 1.0f;
  row.draw = true;
  row.given = kNoToken;
  row.num_logprobs = -1;
  return row;
}

// Three sequences, greedy. With `ahead`, a step starts before the tokens of the one before are
// asked for, so that the device takes them from where it sampled them.
std::vector<std::vector<TokenId>> Generate(ModelRunner& runner, uint32_t num_steps, bool ahead) {
  std::vector<TestSequence> sequences;
  for (uint32_t i = 0; i < 3; ++i) {
    sequences.push_back(runner.NewSequence(Tokens(20 + 30 * i, i + 1)));
    sequences.back().tokens.reserve(512);
  }
  const std::vector<SampleRow> rows = {GreedyRow(0), GreedyRow(1), GreedyRow(2)};
  std::vector<std::vector<SampleResult>> results(num_steps, std::vector<SampleResult>(3));
  Model& model = runner.model();
  for (uint32_t step = 0; step < num_steps; ++step) {
    StepPlan plan;
    for (uint32_t i = 0; i < 3; ++i) {
      const bool waits = ahead && step > 0;
      if (step > 0) sequences[i].tokens.push_back(waits ? kNoToken : results[step - 1][i].token);
      const auto num_new =
          static_cast<uint32_t>(sequences[i].tokens.size()) - sequences[i].num_computed;
      plan.slices.push_back(runner.Slice(sequences[i], num_new, 1));
      if (waits) plan.slices.back().sampled_row = i;
      plan.num_tokens += num_new;
    }
    plan.num_logits_rows = 3;
    float* logits = model.Forward(plan);
    if (ahead && step > 0) model.FinishSample(rows, results[step - 1]);
    model.StartSample(rows, results[step], logits);
    if (!ahead) model.FinishSample(rows, results[step]);
  }
  if (ahead) model.FinishSample(rows, results.back());
  std::vector<std::vector<TokenId>> tokens;
  for (const auto& of_step : results) {
    tokens.push_back({of_step[0].token, of_step[1].token, of_step[2].token});
  }
  return tokens;
}

TEST(GpuModel, AStepAheadGivesTheSameTokens) {
  for (const Mode& mode : kModes) {
    const auto device = OnDevice(KvCacheDType::kBf16, mode);
    ASSERT_TRUE(device->model().is_pipelined());
    const auto want = Generate(*device, 24, false);
    EXPECT_EQ(Generate(*device, 24, true), want) << mode.name;
  }
}

ModelConfig SmallConfig() {
  ModelConfig config;
  config.architecture = "LlamaForCausalLM";
  config.vocab_size = 4096;
  config.hidden_size = 256;
  config.intermediate_size = 320;
  config.num_layers = 3;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 64;
  config.max_position_embeddings = 1024;
  return config;
}

ModelConfig SmallConfigWithExperts() {
  ModelConfig config = SmallConfig();
  config.architecture = "MixtralForCausalLM";
  config.intermediate_size = 192;
  config.layers.assign(config.num_layers, {.window = 0, .has_experts = true});
  config.experts = {
      .num_experts = 8, .num_per_token = 2, .intermediate_size = 192, .normalize = true};
  return config;
}

// Random weights of FP8: the CPU multiplies what they mean by inputs as they are, the device codes
// by codes. A code is off by a thirty-second at most.
TEST(GpuModel, Fp8WeightsGiveTheLogitsOfTheCpu) {
  ModelConfig config = SmallConfig();
  config.fp8_linear = Fp8Linear{.all_layers = true};
  ModelLoadOptions options = Options(KvCacheDType::kBf16);
  options.load_format = LoadFormat::kDummy;
  ModelRunner cpu(config, options);
  const Logits want = RunSteps(cpu);
  for (const Mode& mode : kModes) {
    const auto device = OnDevice(config, options, mode);
    const Logits got = RunSteps(*device);
    const RowErrors errors(got, want);
    errors.Print(mode.name, "FP8 weights");
    EXPECT_LT(errors.median, mode.batch_invariant ? 2e-2 : 6e-2) << mode.name;
    EXPECT_LT(errors.largest, 0.15) << mode.name;
  }
}

// Random weights, made from the tensors' names alone, so that both devices have the same.
TEST(GpuModel, ExpertsGiveTheLogitsOfTheCpu) {
  const ModelConfig config = SmallConfigWithExperts();
  ModelLoadOptions options = Options(KvCacheDType::kBf16);
  options.load_format = LoadFormat::kDummy;
  ModelRunner cpu(config, options);
  const Logits want = RunSteps(cpu);
  for (const Mode& mode : kModes) {
    const auto device = OnDevice(config, options, mode);
    const Logits got = RunSteps(*device);
    // A token whose router is undecided between two experts may go the other way.
    const RowErrors errors(got, want);
    errors.Print(mode.name, "experts");
    EXPECT_LT(errors.median, 3e-2) << mode.name;
  }
}

}  // namespace
}  // namespace kvs::gpu
