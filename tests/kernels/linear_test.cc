#include "kernels/kernel_test_util.h"
#include "kvserve/float_bits.h"
#include "reference/naive.h"

namespace kvs {
namespace {

constexpr DType kDTypes[] = {DType::kBf16, DType::kF16, DType::kF32};

BackendLimits LinearLimits(uint32_t max_rows, uint32_t max_in) {
  return {.max_num_seqs = 1,
          .max_num_batched_tokens = max_rows,
          .max_num_logits_rows = max_rows,
          .max_model_len = 1,
          .num_heads = 1,
          .num_kv_heads = 1,
          .head_dim = 2,
          .hidden_size = max_in,
          .intermediate_size = max_in,
          .vocab_size = 8};
}

std::vector<float> RunLinear(Backend& backend, const LinearWeight& weight,
                             const std::vector<float>& x, uint32_t rows) {
  std::vector<float> out(size_t{rows} * weight.out_features, -1.0f);
  backend.Linear({x.data(), &weight, out.data(), rows, true});
  return out;
}

std::vector<float> Rounded(std::vector<float> values, DType dtype) {
  for (float& value : values) value = static_cast<float>(naive::RoundTo(value, dtype));
  return values;
}

TEST(Linear, MatchesReferenceForEveryShape) {
  struct Shape {
    uint32_t rows, in, out;
  };
  const Shape shapes[] = {{1, 1, 1},      {1, 64, 32},   {2, 63, 33},   {5, 130, 31}, {13, 513, 70},
                          {7, 1025, 100}, {25, 96, 200}, {530, 40, 37}, {1, 2600, 65}};
  for (const std::string& set : InstructionSets()) {
    auto backend = MakeBackend(set, 2);
    ASSERT_TRUE(backend->Reserve(LinearLimits(600, 2600)));
    for (const DType dtype : kDTypes) {
      for (const Shape& shape : shapes) {
        Random random(shape.rows * 1000 + shape.in);
        const auto w = random.Normals(size_t{shape.in} * shape.out);
        const auto x = random.Normals(size_t{shape.rows} * shape.in);
        const HostMatrix part{w.data(), DType::kF32, shape.out, shape.in};
        auto weight = backend->PackLinear({&part, 1}, dtype);
        ASSERT_TRUE(weight);
        const auto got = RunLinear(*backend, **weight, x, shape.rows);
        const bool bf16_x = HasBf16Products(set) && dtype == DType::kBf16;
        const auto want = naive::Linear(bf16_x ? Rounded(x, DType::kBf16) : x, Rounded(w, dtype),
                                        shape.rows, shape.in, shape.out);
        EXPECT_LT(RelativeError(got, want), 1e-4)
            << set << " " << ToString(dtype) << " " << shape.rows << "x" << shape.in << "x"
            << shape.out;
      }
    }
  }
}

TEST(Linear, RowDoesNotDependOnBatchNorThreads) {
  constexpr uint32_t kRows = 70, kIn = 1300, kOut = 200;
  Random random(7);
  const auto w = random.Normals(size_t{kIn} * kOut);
  const auto x = random.Normals(size_t{kRows} * kIn);
  const HostMatrix part{w.data(), DType::kF32, kOut, kIn};
  for (const std::string& set : InstructionSets()) {
    for (const DType dtype : kDTypes) {
      auto one_thread = MakeBackend(set, 1);
      ASSERT_TRUE(one_thread->Reserve(LinearLimits(kRows, kIn)));
      auto weight = one_thread->PackLinear({&part, 1}, dtype);
      ASSERT_TRUE(weight);
      std::vector<float> alone;
      for (uint32_t row = 0; row < kRows; ++row) {
        const std::vector<float> single(x.begin() + row * kIn, x.begin() + (row + 1) * kIn);
        const auto out = RunLinear(*one_thread, **weight, single, 1);
        alone.insert(alone.end(), out.begin(), out.end());
      }
      for (uint32_t num_threads = 1; num_threads <= 3; ++num_threads) {
        auto backend = MakeBackend(set, num_threads);
        ASSERT_TRUE(backend->Reserve(LinearLimits(kRows, kIn)));
        for (uint32_t rows = 1; rows <= kRows; ++rows) {
          const auto batch = RunLinear(*backend, **weight, x, rows);
          ASSERT_TRUE(SameBits(batch.data(), alone.data(), batch.size()))
              << set << " " << ToString(dtype) << " rows=" << rows << " threads=" << num_threads;
        }
      }
    }
  }
}

TEST(Linear, StacksPartsAndConvertsDtypes) {
  constexpr uint32_t kIn = 34;
  Random random(3);
  const auto a = random.Normals(20 * kIn);
  const auto b_float = random.Normals(30 * kIn);
  std::vector<uint16_t> b(b_float.size());
  for (size_t i = 0; i < b.size(); ++i) b[i] = FloatToF16(b_float[i]);
  std::vector<float> stacked = a;
  for (uint16_t half : b) stacked.push_back(F16ToFloat(half));
  const HostMatrix parts[] = {{a.data(), DType::kF32, 20, kIn}, {b.data(), DType::kF16, 30, kIn}};
  const HostMatrix whole{stacked.data(), DType::kF32, 50, kIn};
  for (const DType dtype : kDTypes) {
    auto backend = MakeBackend("auto", 2);
    auto from_parts = backend->PackLinear(parts, dtype);
    auto from_whole = backend->PackLinear({&whole, 1}, dtype);
    ASSERT_TRUE(from_parts && from_whole);
    std::vector<TokenId> ids;
    for (uint32_t i = 0; i < 50; ++i) ids.push_back(TokenId{i});
    std::vector<float> got(50 * kIn), want(50 * kIn);
    backend->Embed({from_parts->get(), ids.data(), got.data(), 50});
    backend->Embed({from_whole->get(), ids.data(), want.data(), 50});
    EXPECT_TRUE(SameBits(got.data(), want.data(), got.size()));
    EXPECT_EQ(got, Rounded(stacked, dtype));
  }
}

TEST(Linear, RefusesPartsThatDiffer) {
  const float data[12] = {};
  const HostMatrix parts[] = {{data, DType::kF32, 2, 3}, {data, DType::kF32, 2, 4}};
  auto backend = MakeBackend("auto", 1);
  auto packed = backend->PackLinear(parts, DType::kF32);
  ASSERT_FALSE(packed);
  EXPECT_EQ(packed.error().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace kvs
