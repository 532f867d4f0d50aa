// All matrix products of one step of Llama-3.1-8B, 32 distinct layers and the LM head, by each of
// the kernels: milliseconds a step, and bytes of weights a second.
#include <chrono>
#include <cstdio>

#include "gpu/bench/bench.h"
#include "gpu/linear.h"

namespace kvs::gpu {
namespace {

struct Shape {
  const char* name;
  uint32_t out_features, in_features;
  size_t Elements() const { return size_t{out_features} * in_features; }
};
constexpr Shape kLayer[] = {{"qkv", 6144, 4096},
                            {"attention out", 4096, 4096},
                            {"gate and up", 28672, 4096},
                            {"down", 4096, 14336}};
constexpr Shape kLmHead = {"LM head", 128256, 4096};
constexpr uint32_t kNumLayers = 32;
constexpr uint32_t kMaxRows = 8192;
constexpr uint32_t kMaxLogitsRows = 1024;

// The weights of the step, in the order in which they are used, and room for x and out.
class Step {
 public:
  Step()
      : weights_(NumElements()),
        x_(size_t{kMaxRows} * 14336),
        out_(size_t{kMaxRows} * 28672),
        logits_(size_t{kMaxLogitsRows} * kLmHead.out_features) {
    FillRandom(weights_.data(), weights_.size() * 2, 1);
    FillRandom(x_.data(), x_.size() * 2, 2);
    uint16_t* next = weights_.data();
    for (uint32_t layer = 0; layer < kNumLayers; ++layer) {
      for (const Shape& shape : kLayer) Add(shape, next);
    }
    Add(kLmHead, next);
  }

  double WeightBytes() const { return static_cast<double>(weights_.size()) * 2; }
  std::vector<const GpuWeight*> LayerWeights() const {
    std::vector<const GpuWeight*> weights;
    for (size_t i = 0; i + 1 < linear_.size(); ++i) weights.push_back(&linear_[i]);
    return weights;
  }
  const GpuWeight* LmHead() const { return &linear_.back(); }

  // Milliseconds of the whole step. `multiply` is called as (LinearParams, Launch).
  template <class F>
  double Milliseconds(uint32_t num_rows, F&& multiply) const {
    std::vector<std::function<void(const Launch&)>> launches;
    for (const GpuWeight& weight : linear_) {
      launches.push_back([=, this, &weight](const Launch& launch) {
        multiply(ParamsOf(weight, num_rows), launch);
      });
    }
    return Median(launches) * 1e-3;
  }
  // The same with what stands between them: normalized inputs, the residual added, SiLU. Attention
  // is left out.
  double FusedMilliseconds(uint32_t num_rows, LinearOp& op) const {
    std::vector<std::function<void(const Launch&)>> launches;
    for (size_t i = 0; i < linear_.size(); ++i) {
      LinearParams params = ParamsOf(linear_[i], num_rows);
      const bool is_head = i + 1 == linear_.size();
      if (is_head || i % 2 == 0) params.norm_weight = norm_.data();
      if (!is_head && i % 2 == 1) params.finish = LinearFinish::kAdd;
      if (!is_head && i % 4 == 2) params.finish = LinearFinish::kSiluMul;
      launches.push_back([=, &op](const Launch& launch) { op.Run(params, launch); });
    }
    return Median(launches) * 1e-3;
  }
  // Microseconds of all the products of one shape, one after the other.
  template <class F>
  double Microseconds(const Shape& shape, uint32_t num_rows, F&& multiply) const {
    std::vector<std::function<void(const Launch&)>> launches;
    for (const GpuWeight& weight : linear_) {
      if (weight.out_features != shape.out_features || weight.in_features != shape.in_features) {
        continue;
      }
      launches.push_back([=, this, &weight](const Launch& launch) {
        multiply(ParamsOf(weight, num_rows), launch);
      });
    }
    return Median(launches) / static_cast<double>(launches.size());
  }

 private:
  static size_t NumElements() {
    size_t layer = 0;
    for (const Shape& shape : kLayer) layer += shape.Elements();
    return layer * kNumLayers + kLmHead.Elements();
  }
  void Add(const Shape& shape, uint16_t*& next) {
    GpuWeight weight;
    weight.out_features = shape.out_features;
    weight.in_features = shape.in_features;
    weight.data = DeviceBuffer(next, shape.Elements() * 2, [](void*, size_t) {});
    linear_.push_back(std::move(weight));
    next += shape.Elements();
  }
  LinearParams ParamsOf(const GpuWeight& weight, uint32_t num_rows) const {
    const bool is_head = &weight == &linear_.back();
    return {x_.data(), &weight, is_head ? static_cast<void*>(logits_.data()) : out_.data(),
            is_head ? std::min(num_rows, kMaxLogitsRows) : num_rows, is_head};
  }
  static double Median(const std::vector<std::function<void(const Launch&)>>& launches) {
    Launch launch = TestLaunch(DType::kBf16);
    launch.dependent = true;
    return MicrosecondsPerLaunch(launches, launch) * static_cast<double>(launches.size());
  }

  const DeviceArray<uint16_t> weights_, x_, out_;
  const DeviceArray<float> logits_;
  const DeviceArray<float> norm_{std::vector<float>(4096, 1.0f)};
  std::vector<GpuWeight> linear_;
};

// By the kernel that streams, or by the portable one.
void PrintShapes(const Step& step, const Ceilings& ceilings, bool portable) {
  std::printf("\n%s by shape: microseconds, share of the read bandwidth\n%14s",
              portable ? "portable gemv" : "own kernel", "rows");
  for (const Shape& shape : kLayer) std::printf(" | %15s", shape.name);
  std::printf(" | %15s\n", kLmHead.name);
  const DeviceFacts& facts = *TestLaunch(DType::kBf16).facts;
  LinearOp op;
  KVS_CHECK(op.Reserve({.batch_invariant = portable, .cache_dir = {}}, facts).has_value());
  for (const uint32_t rows : {1u, 2u, 4u, 8u}) {
    std::printf("%14u", rows);
    const auto print = [&](const Shape& shape) {
      const double us = step.Microseconds(
          shape, rows, [&](const auto& params, const auto& on) { op.Run(params, on); });
      std::printf(" | %8.2f %6.3f", us,
                  static_cast<double>(shape.Elements()) * 2 / us * 1e6 / ceilings.read_bytes_per_s);
    };
    for (const Shape& shape : kLayer) print(shape);
    print(kLmHead);
    std::printf("\n");
  }
}

}  // namespace

void LinearBench(const Ceilings& ceilings) {
  const Step step;
  const DeviceFacts& facts = *TestLaunch(DType::kBf16).facts;
  LinearOp fast, invariant;
  KVS_CHECK(fast.Reserve({}, facts).has_value());
  KVS_CHECK(invariant.Reserve({.batch_invariant = true, .cache_dir = {}}, facts).has_value());
  auto blas_memory = DeviceArray<uint8_t>(32 << 20);
  auto blas = BlasLt::Open(
      {.workspace = blas_memory.data(), .workspace_bytes = 32 << 20, .cache_prefix = {}});
  const auto tune = [&](auto&& tuner) {
    const auto start = std::chrono::steady_clock::now();
    tuner();
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    return spent.count();
  };
  const auto layer_weights = step.LayerWeights();
  const GpuWeight* head = step.LmHead();
  const double spent = tune([&] {
    fast.Tune(layer_weights, kMaxRows, false, nullptr);
    fast.Tune({&head, 1}, 256, true, nullptr);
  });
  std::printf("\nlinear layers of a step: %s; tuned in %.2f s; floor %.3f ms\n",
              fast.Describe().c_str(), spent, step.WeightBytes() / ceilings.read_bytes_per_s * 1e3);
  if (blas) {
    (*blas)->Tune(layer_weights, {1, 16, false, 1000}, nullptr);
    (*blas)->Tune({&head, 1}, {1, 16, true, 1000}, nullptr);
  }
  std::printf("%6s | %9s %6s %6s | %12s | %15s | %9s\n", "rows", "ours ms", "TB/s", "share",
              "cuBLASLt ms", "batch-invariant", "ours/cuBLASLt");
  for (const uint32_t rows : {1u, 2u, 4u, 8u, 16u, 32u, 64u, 128u, 256u, 1024u, kMaxRows}) {
    const auto by = [&](LinearOp& op) {
      return step.Milliseconds(rows,
                               [&](const auto& params, const auto& on) { op.Run(params, on); });
    };
    const double ours = by(fast);
    const double library =
        blas && rows <= 16
            ? step.Milliseconds(
                  rows, [&](const auto& params, const auto& on) { (*blas)->Run(params, on); })
            : 0;
    const double bandwidth = step.WeightBytes() / ours * 1e3;
    std::printf("%6u | %9.3f %6.2f %6.3f | %12.3f | %15.3f | %9.3f\n", rows, ours, bandwidth / 1e12,
                bandwidth / ceilings.read_bytes_per_s, library, by(invariant),
                library > 0 ? ours / library : 1.0);
  }
  std::printf("\nfused with norms, residual and SiLU: rows, ms\n");
  for (const uint32_t rows : {1u, 2u, 4u}) {
    if (!fast.Fuses(rows, layer_weights)) continue;
    std::printf("%6u | %9.3f\n", rows, step.FusedMilliseconds(rows, fast));
  }
  PrintShapes(step, ceilings, false);
  PrintShapes(step, ceilings, true);
}

}  // namespace kvs::gpu
