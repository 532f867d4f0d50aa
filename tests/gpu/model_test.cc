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

std::unique_ptr<ModelRunner> OnDevice(KvCacheDType kv_dtype, const Mode& mode) {
  GpuBackendOptions options;
  options.batch_invariant = mode.batch_invariant;
  options.enforce_eager = mode.enforce_eager;
  auto backend = OpenGpuBackend(options);
  if (!backend) ADD_FAILURE() << backend.error().message();
  return std::make_unique<ModelRunner>(*ReadModelConfig(ModelDir()), Options(kv_dtype),
                                       std::move(*backend));
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
  TestSequence c = runner.NewSequence(Tokens(33, 3));
  Logits all;
  const auto run = [&](std::vector<ScheduledSlice> slices) {
    for (auto& row : runner.Run(std::move(slices))) all.push_back(std::move(row));
  };
  run({runner.Slice(a, 40, 40), runner.Slice(b, 70, 3)});
  run({runner.Slice(a, 1, 1), runner.Slice(b, 60, 1), runner.Slice(c, 20, 1)});
  for (int i = 0; i < 12; ++i) {
    run({runner.Slice(a, 1, 1), runner.Slice(b, 1, 1), runner.Slice(c, 1, 1)});
  }
  return all;
}

TEST(GpuModel, LogitsAreThoseOfTheCpu) {
  for (const KvCacheDType kv_dtype : {KvCacheDType::kBf16, KvCacheDType::kF8E4M3}) {
    const ModelConfig config = *ReadModelConfig(ModelDir());
    ModelRunner cpu(config, Options(kv_dtype));
    const Logits want = RunSteps(cpu);
    for (const Mode& mode : kModes) {
      const auto device = OnDevice(kv_dtype, mode);
      const Logits got = RunSteps(*device);
      ASSERT_EQ(got.size(), want.size());
      // Activations are bfloat16 here and float32 there; an FP8 code that rounds the other way
      // is a difference of an eighth in one element.
      std::vector<double> errors;
      for (size_t row = 0; row < want.size(); ++row) {
        errors.push_back(RelativeRms(got[row], want[row]));
      }
      std::sort(errors.begin(), errors.end());
      const double median = errors[errors.size() / 2];
      std::printf("%-15s %-8s relative error of a row: median %.4f, largest %.4f\n", mode.name,
                  std::string(ToString(kv_dtype)).c_str(), median, errors.back());
      EXPECT_LT(median, IsFp8(kv_dtype) ? 5e-2 : 2e-2) << mode.name;
      EXPECT_LT(errors.back(), IsFp8(kv_dtype) ? 0.15 : 8e-2) << mode.name;
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

}  // namespace
}  // namespace kvs::gpu
