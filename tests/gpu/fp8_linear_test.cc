// Weights of FP8: what is multiplied, codes by codes, is known exactly, so that products are held
// against float64 over the same codes.
#include <cstring>

#include "gpu/gpu_test_util.h"
#include "gpu/linear.h"
#include "gpu/linear_kernels.h"
#include "reference/naive.h"

namespace kvs::gpu {
namespace {

constexpr uint32_t kRows = 300;
constexpr float kNormEps = 1e-5f;

// Short, uneven, more than one wave of tiles, x in registers and in shared memory, and as wide as
// the kernel for few rows takes.
constexpr LinearShape kShapes[] = {{32, 64},    {208, 576},   {2608, 4096},
                                   {336, 8192}, {144, 14336}, {48, 16448}};

// The rows of x as QuantizeRows has them.
struct HostCodes {
  std::vector<uint8_t> codes;
  std::vector<float> scales, values;  // a value is a code times its row's scale
};

HostCodes Quantized(const std::vector<float>& x, uint32_t num_rows, float input_scale) {
  HostCodes out;
  const size_t dim = x.size() / num_rows;
  for (uint32_t row = 0; row < num_rows; ++row) {
    float largest = 1e-20f;
    for (size_t i = 0; i < dim; ++i) largest = std::max(largest, std::abs(x[row * dim + i]));
    const float scale = input_scale != 0.0f ? input_scale : largest / kF8E4M3Max;
    const float inverse = 1.0f / scale;
    out.scales.push_back(scale);
    for (size_t i = 0; i < dim; ++i) {
      out.codes.push_back(FloatToF8E4M3(x[row * dim + i] * inverse));
      out.values.push_back(F8E4M3ToFloat(out.codes.back()) * scale);
    }
  }
  return out;
}

// One weight with a scale for each row, kRows rows of x, and what both mean.
class Fp8Problem {
 public:
  Fp8Problem(const LinearShape& shape, DType act, float input_scale)
      : act_(act),
        shape_(shape),
        random_(shape.out_features * 31 + shape.in_features),
        x_stored_(Encode16(random_.Normals(size_t{kRows} * shape.in_features), act)),
        x_(x_stored_),
        codes_(Codes()),
        device_codes_(codes_),
        scales_(Scales()),
        device_scales_(scales_),
        x_codes_(size_t{kRows} * shape.in_features),
        x_scales_(kRows) {
    weight_.out_features = shape.out_features;
    weight_.in_features = shape.in_features;
    weight_.dtype = DType::kF8E4M3;
    weight_.input_scale = input_scale;
    weight_.data = DeviceBuffer(device_codes_.data(), codes_.size(), [](void*, size_t) {});
    weight_.row_scales =
        DeviceBuffer(device_scales_.data(), scales_.size() * sizeof(float), [](void*, size_t) {});
    PrepareStreamGemv(*TestLaunch(act).facts);
  }

  const GpuWeight& weight() const { return weight_; }
  std::vector<float> X() const { return Decode16(x_stored_, act_); }
  bool StreamServes(uint32_t num_rows) const {
    return StreamGemvServes({x_.data(), &weight_, nullptr, num_rows, true},
                            *TestLaunch(act_).facts);
  }

  // The weight, as float32.
  std::vector<float> W() const {
    std::vector<float> w(codes_.size());
    for (size_t i = 0; i < w.size(); ++i) {
      w[i] = F8E4M3ToFloat(codes_[i]) * scales_[i / shape_.in_features];
    }
    return w;
  }
  // The product of the rows of x after quantization, in float64.
  std::vector<double> Want(std::vector<float> x, uint32_t num_rows) const {
    x.resize(size_t{num_rows} * shape_.in_features);
    return naive::Linear(Quantized(x, num_rows, weight_.input_scale).values, W(), num_rows,
                         shape_.in_features, shape_.out_features);
  }

  QuantizedRows QuantizeX(uint32_t num_rows) const {
    const QuantizedRows rows = {x_codes_.data(), x_scales_.data()};
    QuantizeRows({x_.data(), &weight_, nullptr, num_rows, false}, rows, TestLaunch(act_));
    return rows;
  }
  HostCodes QuantizedX(uint32_t num_rows) const {
    QuantizeX(num_rows);
    HostCodes out = {x_codes_.ToHost(), x_scales_.ToHost(), {}};
    out.codes.resize(size_t{num_rows} * shape_.in_features);
    out.scales.resize(num_rows);
    return out;
  }

  template <class F>
  std::vector<float> Multiply(uint32_t num_rows, bool out_is_f32, F&& multiply) const {
    const size_t count = size_t{num_rows} * shape_.out_features;
    const DeviceArray<float> out_f32(out_is_f32 ? count : 0);
    const DeviceArray<uint16_t> out_act(out_is_f32 ? 0 : count);
    void* out = out_is_f32 ? static_cast<void*>(out_f32.data()) : out_act.data();
    multiply(LinearParams{x_.data(), &weight_, out, num_rows, out_is_f32}, TestLaunch(act_));
    KVS_GPU(DeviceSynchronize());
    return out_is_f32 ? out_f32.ToHost() : Decode16(out_act.ToHost(), act_);
  }
  std::vector<float> ByStream(uint32_t num_rows, bool out_is_f32) const {
    return Multiply(num_rows, out_is_f32, [&](const LinearParams& params, const Launch& launch) {
      if (num_rows <= kMaxQuantizingRows) return StreamGemv(params, launch);
      const QuantizedRows quantized = QuantizeX(num_rows);
      StreamGemv(params, launch, &quantized);
    });
  }

 private:
  std::vector<uint8_t> Codes() {
    std::vector<uint8_t> codes;
    for (const float value : random_.Normals(size_t{shape_.out_features} * shape_.in_features)) {
      codes.push_back(FloatToF8E4M3(value * 100.0f));
    }
    return codes;
  }
  std::vector<float> Scales() {
    std::vector<float> scales;
    for (const float value : random_.Normals(shape_.out_features)) {
      scales.push_back(1e-4f * (0.5f + std::abs(value)));
    }
    return scales;
  }

  const DType act_;
  const LinearShape shape_;
  Random random_;
  const std::vector<uint16_t> x_stored_;
  const DeviceArray<uint16_t> x_;
  const std::vector<uint8_t> codes_;
  const DeviceArray<uint8_t> device_codes_;
  const std::vector<float> scales_;
  const DeviceArray<float> device_scales_;
  const DeviceArray<uint8_t> x_codes_;
  const DeviceArray<float> x_scales_;
  GpuWeight weight_;
};

// By each row's own largest, and fixed so that the largest are clipped.
constexpr float kInputScales[] = {0.0f, 0.005f};

TEST(GpuFp8Linear, QuantizesRowsAsTheHostDoes) {
  for (const DType act : {DType::kBf16, DType::kF16}) {
    for (const float input_scale : kInputScales) {
      const Fp8Problem problem({32, 576}, act, input_scale);
      const HostCodes want = Quantized(problem.X(), kRows, input_scale);
      const HostCodes got = problem.QuantizedX(kRows);
      EXPECT_EQ(got.codes, want.codes) << input_scale;
      EXPECT_EQ(got.scales, want.scales) << input_scale;
    }
  }
}

TEST(GpuFp8Linear, ARowOfZerosStaysZero) {
  const DeviceArray<uint16_t> x(std::vector<uint16_t>(128, 0));
  const DeviceArray<uint8_t> codes(128);
  const DeviceArray<float> scales(1);
  GpuWeight weight;
  weight.in_features = 128;
  QuantizeRows({x.data(), &weight, nullptr, 1, false}, {codes.data(), scales.data()},
               TestLaunch(DType::kBf16));
  EXPECT_EQ(codes.ToHost(), std::vector<uint8_t>(128, 0));
  EXPECT_TRUE(std::isfinite(scales.ToHost()[0]));
}

TEST(GpuFp8Linear, StreamMatchesReference) {
  if (TestLaunch(DType::kBf16).facts->major != 9) GTEST_SKIP() << "compute capability 9.0 alone";
  for (const DType act : {DType::kBf16, DType::kF16}) {
    for (const float input_scale : kInputScales) {
      for (const LinearShape& shape : kShapes) {
        const Fp8Problem problem(shape, act, input_scale);
        for (const uint32_t num_rows : {1u, 2u, 3u, 5u, 8u}) {
          if (!problem.StreamServes(num_rows)) continue;
          const auto want = problem.Want(problem.X(), num_rows);
          const std::string at = Name(shape, num_rows);
          EXPECT_LT(RelativeRms(problem.ByStream(num_rows, true), want), 2e-5) << at;
          EXPECT_LT(RelativeRms(problem.ByStream(num_rows, false), want), 3e-3) << at;
        }
      }
    }
  }
}

// The same bits whether a row was quantized by the kernel itself or before, and beside which.
TEST(GpuFp8Linear, RowsDoNotDependOnTheirCompany) {
  for (const LinearShape& shape : kShapes) {
    const Fp8Problem problem(shape, DType::kBf16, 0.0f);
    if (!problem.StreamServes(1)) continue;
    const auto alone = problem.ByStream(1, true);
    for (const uint32_t num_rows : {2u, 3u, 8u}) {
      if (!problem.StreamServes(num_rows)) continue;
      const auto got = problem.ByStream(num_rows, true);
      EXPECT_EQ(std::memcmp(got.data(), alone.data(), alone.size() * sizeof(float)), 0)
          << Name(shape, num_rows);
    }
  }
}

// Normalized in float64 and rounded as the activations are: a few codes may fall to the other side.
std::vector<float> Normalized(std::vector<float> x, const std::vector<float>& norm, uint32_t rows,
                              DType act) {
  x.resize(rows * norm.size());
  std::vector<double> residual(x.begin(), x.end());
  std::vector<float> out;
  for (const double value : naive::AddRmsNorm(&residual, {}, norm, rows, kNormEps)) {
    out.push_back(Decode16(Encode16(static_cast<float>(value), act), act));
  }
  return out;
}

double Finished(const std::vector<double>& product, size_t row, size_t column, size_t columns,
                LinearFinish finish, double before) {
  const double* of_row = product.data() + row * columns;
  if (finish == LinearFinish::kSiluMul) {
    return naive::Silu(of_row[column]) * of_row[columns / 2 + column];
  }
  return of_row[column] + (finish == LinearFinish::kAdd ? before : 0.0);
}

TEST(GpuFp8Linear, StreamNormalizesAndFinishes) {
  if (TestLaunch(DType::kBf16).facts->major != 9) GTEST_SKIP() << "compute capability 9.0 alone";
  for (const DType act : {DType::kBf16, DType::kF16}) {
    for (const LinearShape& shape : {LinearShape{208, 576}, {2608, 4096}, {336, 14336}}) {
      const Fp8Problem problem(shape, act, 0.0f);
      Random random(7);
      const auto norm = random.Normals(shape.in_features);
      const DeviceArray<float> device_norm(norm);
      const DeviceArray<uint16_t> x(Encode16(problem.X(), act));
      for (const LinearFinish finish :
           {LinearFinish::kStore, LinearFinish::kAdd, LinearFinish::kSiluMul}) {
        for (const bool normalizes : {false, true}) {
          for (uint32_t rows = 1; rows <= kMaxQuantizingRows; ++rows) {
            const size_t columns =
                finish == LinearFinish::kSiluMul ? shape.out_features / 2 : shape.out_features;
            const auto before = Encode16(random.Normals(rows * columns), act);
            const DeviceArray<uint16_t> out(before);
            StreamGemv({.x = x.data(),
                        .weight = &problem.weight(),
                        .out = out.data(),
                        .num_rows = rows,
                        .out_is_f32 = false,
                        .norm_weight = normalizes ? device_norm.data() : nullptr,
                        .norm_eps = kNormEps,
                        .finish = finish},
                       TestLaunch(act));
            const auto product = problem.Want(
                normalizes ? Normalized(problem.X(), norm, rows, act) : problem.X(), rows);
            std::vector<double> want;
            for (size_t i = 0; i < rows * columns; ++i) {
              want.push_back(Finished(product, i / columns, i % columns, shape.out_features, finish,
                                      Decode16(before[i], act)));
            }
            EXPECT_LT(RelativeRms(Decode16(out.ToHost(), act), want), 1e-2)
                << Name(shape, rows) << " finish " << static_cast<int>(finish)
                << (normalizes ? " of normalized rows" : "");
          }
        }
      }
    }
  }
}

// The library, which multiplies more than a few rows, adds up in less than float32: 1.3e-3 where
// inputs were rounded by 2.6e-2 before.
TEST(GpuFp8Linear, OpMatchesReferenceTunedAndNot) {
  for (const DType act : {DType::kBf16, DType::kF16}) {
    const Launch launch = TestLaunch(act);
    for (const float input_scale : kInputScales) {
      const Fp8Problem problem({2608, 4096}, act, input_scale);
      const GpuWeight* weight = &problem.weight();
      const auto want = problem.Want(problem.X(), kRows);
      for (const bool tuned : {false, true}) {
        LinearOp op;
        ASSERT_TRUE(op.Reserve({.act = act, .cache_dir = {}}, *launch.facts));
        const std::string why = op.WhyNoFp8(weight->out_features, weight->in_features);
        if (!why.empty()) GTEST_SKIP() << why;
        ASSERT_TRUE(op.ReserveCodes({&weight, 1}, kRows));
        if (tuned) op.Tune({&weight, 1}, kRows, false, launch.stream);
        for (const uint32_t num_rows : {1u, 2u, 8u, 9u, 16u, 17u, 33u, 300u}) {
          for (const bool out_is_f32 : {true, false}) {
            const auto got = problem.Multiply(
                num_rows, out_is_f32, [&](const auto& params, Launch l) { op.Run(params, l); });
            const std::vector<double> first(want.begin(),
                                            want.begin() + static_cast<ptrdiff_t>(got.size()));
            const double error = RelativeRms(got, first);
            EXPECT_LT(error, !out_is_f32 || num_rows > kMaxStreamRows ? 3e-3 : 2e-5) << num_rows;
            if (!tuned && out_is_f32)
              std::printf("%4u rows: relative error %.1e\n", num_rows, error);
          }
        }
      }
    }
  }
}

TEST(GpuFp8Linear, SaysWhyNot) {
  const DeviceFacts& facts = *TestLaunch(DType::kBf16).facts;
  LinearOp invariant, op;
  ASSERT_TRUE(invariant.Reserve({.batch_invariant = true, .cache_dir = {}}, facts));
  EXPECT_NE(invariant.WhyNoFp8(64, 64).find("--batch-invariant"), std::string::npos);
  ASSERT_TRUE(op.Reserve({}, facts));
  EXPECT_FALSE(op.WhyNoFp8(64, 96).empty());
  EXPECT_FALSE(op.WhyNoFp8(24, 64).empty());
}

}  // namespace
}  // namespace kvs::gpu
