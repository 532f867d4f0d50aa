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

// The weights of the step, in the order in which they are used, and room for x and out. The layers'
// are of `dtype`.
class Step {
 public:
  explicit Step(DType dtype)
      : dtype_(dtype),
        weights_(NumBytes()),
        x_(size_t{kMaxRows} * 14336),
        out_(size_t{kMaxRows} * 28672),
        logits_(size_t{kMaxLogitsRows} * kLmHead.out_features) {
    FillRandom(weights_.data(), weights_.size(), 1);
    FillRandom(x_.data(), x_.size() * 2, 2);
    uint8_t* next = weights_.data();
    for (uint32_t layer = 0; layer < kNumLayers; ++layer) {
      for (const Shape& shape : kLayer) Add(shape, dtype, next);
    }
    Add(kLmHead, DType::kBf16, next);
  }

  double WeightBytes() const { return static_cast<double>(weights_.size()); }
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
  size_t NumBytes() const {
    size_t layer = 0;
    for (const Shape& shape : kLayer) layer += shape.Elements();
    return layer * kNumLayers * SizeOf(dtype_) + kLmHead.Elements() * 2;
  }
  void Add(const Shape& shape, DType dtype, uint8_t*& next) {
    GpuWeight weight;
    weight.dtype = dtype;
    weight.out_features = shape.out_features;
    weight.in_features = shape.in_features;
    const size_t bytes = shape.Elements() * SizeOf(dtype);
    weight.data = DeviceBuffer(next, bytes, [](void*, size_t) {});
    weight.row_scales = DeviceBuffer(scales_.data(), scales_.size() * 4, [](void*, size_t) {});
    linear_.push_back(std::move(weight));
    next += bytes;
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

  const DType dtype_;
  const DeviceArray<uint8_t> weights_;
  const DeviceArray<uint16_t> x_, out_;
  const DeviceArray<float> logits_;
  const DeviceArray<float> norm_{std::vector<float>(4096, 1.0f)};
  const DeviceArray<float> scales_{std::vector<float>(28672, 1e-3f)};  // of FP8 rows
  std::vector<GpuWeight> linear_;
};

void PrintShapes(const Step& step, const Ceilings& ceilings) {
  std::printf("\nown kernel by shape: microseconds, share of the read bandwidth\n%14s", "rows");
  for (const Shape& shape : kLayer) std::printf(" | %15s", shape.name);
  std::printf(" | %15s\n", kLmHead.name);
  const DeviceFacts& facts = *TestLaunch(DType::kBf16).facts;
  LinearOp op;
  KVS_CHECK(op.Reserve({}, facts).has_value());
  for (const uint32_t rows : {1u, 2u, 4u, 8u, 16u, 64u, 128u}) {
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

// The step by BF16 and by FP8 weights, but for the LM head's, which stay BF16. `wide` is tuned.
void PrintFp8(const Step& step, LinearOp& wide, const DeviceFacts& facts) {
  const Step narrow_step(DType::kF8E4M3);
  const auto weights = narrow_step.LayerWeights();
  const GpuWeight* head = narrow_step.LmHead();
  LinearOp narrow;
  KVS_CHECK(narrow.Reserve({}, facts).has_value());
  const std::string why = narrow.WhyNoFp8(4096, 4096);
  if (!why.empty()) return static_cast<void>(std::printf("\nFP8 weights: %s\n", why.c_str()));
  KVS_CHECK(narrow.ReserveCodes(weights, kMaxRows).has_value());
  narrow.Tune(weights, kMaxRows, false, nullptr);
  narrow.Tune({&head, 1}, 256, true, nullptr);
  std::printf("\nFP8 weights, inputs quantized on the way: ms a step\n%6s | %9s | %9s | %8s\n",
              "rows", "BF16", "FP8", "FP8/BF16");
  for (const uint32_t rows : {1u, 2u, 4u, 8u, 16u, 64u, 256u, 1024u, kMaxRows}) {
    const auto by = [&](const Step& of, LinearOp& op) {
      return of.Milliseconds(rows, [&](const auto& params, const auto& on) { op.Run(params, on); });
    };
    const double wide_ms = by(step, wide), narrow_ms = by(narrow_step, narrow);
    std::printf("%6u | %9.3f | %9.3f | %8.3f\n", rows, wide_ms, narrow_ms, narrow_ms / wide_ms);
  }
  for (const uint32_t rows : {1u, 2u}) {
    if (!narrow.Fuses(rows, weights)) continue;
    const double wide_ms = step.FusedMilliseconds(rows, wide);
    const double narrow_ms = narrow_step.FusedMilliseconds(rows, narrow);
    std::printf("%6u | %9.3f | %9.3f | %8.3f fused\n", rows, wide_ms, narrow_ms,
                narrow_ms / wide_ms);
  }
}

}  // namespace

void LinearBench(const Ceilings& ceilings) {
  const Step step(DType::kBf16);
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
    constexpr uint32_t kFewRows[] = {1, 2, 4, 8, 16};
    (*blas)->Tune(layer_weights, {kFewRows, false, 1000}, nullptr);
    (*blas)->Tune({&head, 1}, {kFewRows, true, 1000}, nullptr);
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
  PrintFp8(step, fast, facts);
  PrintShapes(step, ceilings);
}

}  // namespace kvs::gpu
