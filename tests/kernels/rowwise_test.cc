#include <algorithm>

#include "cpu/kernel_table.h"
#include "kernels/kernel_test_util.h"
#include "kvserve/float_bits.h"
#include "reference/naive.h"

namespace kvs {
namespace {

TEST(AddRmsNorm, MatchesReferenceAndRowsAreIndependent) {
  for (const std::string& set : InstructionSets()) {
    auto backend = MakeBackend(set, 3);
    for (const uint32_t dim : {1u, 15u, 64u, 77u, 2048u}) {
      constexpr uint32_t kRows = 40;
      Random random(dim);
      const auto start = random.Normals(size_t{kRows} * dim, 3.0f);
      const auto x = random.Normals(start.size());
      const auto weight = random.Normals(dim);
      std::vector<float> residual = start, out(start.size());
      backend->AddRmsNorm(
          {residual.data(), x.data(), weight.data(), out.data(), kRows, dim, 1e-5f});
      std::vector<double> want_residual(start.begin(), start.end());
      const auto want = naive::AddRmsNorm(&want_residual, x, weight, kRows, 1e-5);
      EXPECT_LT(RelativeError(out, want), 1e-5) << set << " " << dim;
      EXPECT_LT(RelativeError(residual, want_residual), 1e-6) << set << " " << dim;

      std::vector<float> row(start.begin() + 3 * dim, start.begin() + 4 * dim), alone(dim);
      backend->AddRmsNorm(
          {row.data(), x.data() + 3 * dim, weight.data(), alone.data(), 1, dim, 1e-5f});
      EXPECT_TRUE(SameBits(alone.data(), out.data() + 3 * dim, dim)) << set << " " << dim;

      std::vector<float> same = start;
      backend->AddRmsNorm({same.data(), nullptr, weight.data(), out.data(), kRows, dim, 1e-5f});
      EXPECT_EQ(same, start);
    }
  }
}

TEST(SiluMul, MatchesReferenceWhereverAnElementStands) {
  for (const std::string& set : InstructionSets()) {
    auto backend = MakeBackend(set, 2);
    const std::vector<float> inputs = {0.0f, -0.0f, 1.0f,   -1.0f,  20.0f, -20.0f,
                                       88.f, -88.f, 104.0f, -104.f, 1e30f, -1e30f};
    for (const float gate : inputs) {
      float first = 0;
      for (uint32_t dim = 1; dim < 40; ++dim) {
        std::vector<float> gate_up(2 * dim, 0.5f), out(dim);
        gate_up[dim - 1] = gate;
        gate_up[2 * dim - 1] = 2.0f;
        backend->SiluMul({gate_up.data(), out.data(), 1, dim});
        if (dim == 1) first = out[0];
        ASSERT_TRUE(SameBits(&first, &out[dim - 1], 1)) << set << " " << gate << " " << dim;
      }
      EXPECT_NEAR(first, 2 * naive::Silu(gate), std::abs(naive::Silu(gate)) * 1e-6 + 1e-37) << set;
    }
  }
}

TEST(GatherRows, CopiesRowsInTheOrderAsked) {
  auto backend = MakeBackend("auto", 1);
  const std::vector<float> in = {0, 1, 10, 11, 20, 21};
  const uint32_t rows[] = {2, 0, 2};
  std::vector<float> out(6);
  backend->GatherRows({in.data(), rows, out.data(), 3, 2});
  EXPECT_EQ(out, (std::vector<float>{20, 21, 0, 1, 20, 21}));
}

// The value of an element of the cache.
double Load(const std::vector<uint8_t>& cache, KvCacheDType dtype, size_t index) {
  const uint8_t* at = cache.data() + index * SizeOf(dtype);
  uint16_t half;
  float whole;
  switch (dtype) {
    case KvCacheDType::kF32:
      std::memcpy(&whole, at, 4);
      return whole;
    case KvCacheDType::kBf16:
      std::memcpy(&half, at, 2);
      return Bf16ToFloat(half);
    case KvCacheDType::kF16:
      std::memcpy(&half, at, 2);
      return F16ToFloat(half);
    case KvCacheDType::kF8E4M3:
      return F8E4M3ToFloat(*at);
    case KvCacheDType::kF8E5M2:
      return F8E5M2ToFloat(*at);
  }
  return 0;
}

TEST(RopeKvStore, RotatesAndStoresTheSameBitsOnEveryInstructionSet) {
  constexpr uint32_t kTokens = 21, kHeads = 3, kKvHeads = 2, kDim = 34, kBlock = 16;
  constexpr uint32_t kHalf = kDim / 2, kRow = (kHeads + 2 * kKvHeads) * kDim;
  Random random(5);
  const auto qkv = random.Normals(kTokens * kRow);
  const auto angles = random.Normals(size_t{64} * kHalf);
  std::vector<float> cos_sin(64 * kDim);
  for (size_t p = 0; p < 64; ++p) {
    for (size_t i = 0; i < kHalf; ++i) {
      cos_sin[p * kDim + i] = std::cos(angles[p * kHalf + i]);
      cos_sin[p * kDim + kHalf + i] = std::sin(angles[p * kHalf + i]);
    }
  }
  std::vector<uint32_t> positions;
  std::vector<SlotId> slots;
  for (uint32_t t = 0; t < kTokens; ++t) {
    positions.push_back(t * 3);
    slots.push_back(SlotId{kBlock + (t * 5) % kTokens});
  }
  const std::vector<float> k_scale = {0.5f, 0.02f}, v_scale = {2.0f, 0.7f};
  const auto rotated = [&](uint32_t token, uint32_t head, uint32_t i) {
    const float* x = &qkv[token * kRow + head * kDim];
    const float* cs = &cos_sin[positions[token] * kDim];
    if (head >= kHeads + kKvHeads) return x[i];
    const float a = x[i % kHalf], b = x[i % kHalf + kHalf];
    const float c = cs[i % kHalf], s = cs[i % kHalf + kHalf];
    return i < kHalf ? a * c - b * s : b * c + a * s;
  };
  for (const KvCacheDType dtype : {KvCacheDType::kBf16, KvCacheDType::kF16, KvCacheDType::kF32,
                                   KvCacheDType::kF8E4M3, KvCacheDType::kF8E5M2}) {
    const KvLayout layout{1, kKvHeads, kDim, kBlock, dtype};
    std::vector<uint8_t> first_cache;
    for (const std::string& set : InstructionSets()) {
      auto backend = MakeBackend(set, 2);
      std::vector<float> work = qkv;
      std::vector<uint8_t> cache(4 * layout.LayerBlockBytes());
      uint64_t num_saturated = 100;
      backend->RopeKvStore({work.data(),
                            positions.data(),
                            slots.data(),
                            cos_sin.data(),
                            {cache.data(), k_scale.data(), v_scale.data(), layout},
                            &num_saturated,
                            kTokens,
                            kHeads});
      uint64_t want_saturated = 100;
      for (uint32_t t = 0; t < kTokens; ++t) {
        const BlockId block{slots[t].value / kBlock};
        const size_t in_plane = slots[t].value % kBlock * kDim;
        for (uint32_t i = 0; i < kDim; ++i) {
          for (uint32_t head = 0; head < kHeads; ++head) {
            ASSERT_EQ(work[t * kRow + head * kDim + i], rotated(t, head, i)) << set;
          }
          for (uint32_t head = 0; head < kKvHeads; ++head) {
            const float k = rotated(t, kHeads + head, i) / k_scale[head];
            const float v = rotated(t, kHeads + kKvHeads + head, i) / v_scale[head];
            ASSERT_EQ(Load(cache, dtype, layout.KOffset(block, head) + in_plane + i),
                      naive::RoundTo(k, dtype));
            ASSERT_EQ(Load(cache, dtype, layout.VOffset(block, head) + in_plane + i),
                      naive::RoundTo(v, dtype));
            if (dtype == KvCacheDType::kF8E4M3) {
              want_saturated += (std::abs(k) > kF8E4M3Max) + (std::abs(v) > kF8E4M3Max);
            }
          }
        }
      }
      EXPECT_EQ(num_saturated, want_saturated) << set;
      if (first_cache.empty()) first_cache = cache;
      EXPECT_EQ(cache, first_cache) << set << " " << ToString(dtype);
    }
  }
}

// Bias, norm and rotation of one head in float64.
std::vector<double> PreparedHead(const float* x, const float* bias, const float* norm,
                                 const float* cos_sin, uint32_t dim, double eps) {
  std::vector<double> head(x, x + dim);
  for (uint32_t i = 0; i < dim && bias != nullptr; ++i) head[i] += bias[i];
  if (norm != nullptr) head = naive::AddRmsNorm(&head, {}, {norm, dim}, 1, eps);
  if (cos_sin == nullptr) return head;
  std::vector<double> out(dim);
  for (uint32_t i = 0; i < dim / 2; ++i) {
    const double a = head[i], b = head[i + dim / 2], c = cos_sin[i], s = cos_sin[i + dim / 2];
    out[i] = a * c - b * s;
    out[i + dim / 2] = b * c + a * s;
  }
  return out;
}

TEST(RopeKvStore, AddsBiasThenNormalizesThenRotates) {
  constexpr uint32_t kTokens = 9, kHeads = 4, kKvHeads = 2, kDim = 50, kBlock = 16;
  constexpr uint32_t kRow = (kHeads + 2 * kKvHeads) * kDim;
  constexpr float kEps = 1e-3f;
  Random random(11);
  const auto qkv = random.Normals(kTokens * kRow), bias = random.Normals(kRow);
  const auto q_norm = random.Normals(kDim), k_norm = random.Normals(kDim);
  const auto cos_sin = random.Normals(size_t{kTokens} * kDim);
  std::vector<uint32_t> positions;
  std::vector<SlotId> slots;
  for (uint32_t t = 0; t < kTokens; ++t) {
    positions.push_back(kTokens - 1 - t);
    slots.push_back(SlotId{kBlock + t});
  }
  const std::vector<float> ones(kKvHeads, 1.0f);
  const KvLayout layout{1, kKvHeads, kDim, kBlock, KvCacheDType::kF32};
  for (const std::string& set : InstructionSets()) {
    for (const bool with_bias : {false, true}) {
      for (const bool with_norm : {false, true}) {
        auto backend = MakeBackend(set, 2);
        std::vector<float> work = qkv;
        std::vector<uint8_t> cache(2 * layout.LayerBlockBytes());
        uint64_t num_saturated = 0;
        const float* const b = with_bias ? bias.data() : nullptr;
        const float* const qn = with_norm ? q_norm.data() : nullptr;
        const float* const kn = with_norm ? k_norm.data() : nullptr;
        backend->RopeKvStore({.qkv = work.data(),
                              .positions = positions.data(),
                              .slot_mapping = slots.data(),
                              .cos_sin = cos_sin.data(),
                              .kv = {cache.data(), ones.data(), ones.data(), layout},
                              .num_saturated = &num_saturated,
                              .num_tokens = kTokens,
                              .num_heads = kHeads,
                              .qkv_bias = b,
                              .q_norm = qn,
                              .k_norm = kn,
                              .norm_eps = kEps});
        std::vector<float> got;
        std::vector<double> want;
        const auto expect = [&](uint32_t token, uint32_t head, const float* norm, bool rotated) {
          const size_t at = size_t{head} * kDim;
          const auto prepared =
              PreparedHead(&qkv[token * kRow + at], b == nullptr ? nullptr : b + at, norm,
                           rotated ? &cos_sin[positions[token] * kDim] : nullptr, kDim, kEps);
          want.insert(want.end(), prepared.begin(), prepared.end());
        };
        for (uint32_t t = 0; t < kTokens; ++t) {
          for (uint32_t head = 0; head < kHeads; ++head) {
            expect(t, head, qn, true);
            const float* q = &work[t * kRow + head * kDim];
            got.insert(got.end(), q, q + kDim);
          }
          for (uint32_t head = 0; head < kKvHeads; ++head) {
            expect(t, kHeads + head, kn, true);
            expect(t, kHeads + kKvHeads + head, nullptr, false);
            for (const size_t plane : {layout.KOffset({1}, head), layout.VOffset({1}, head)}) {
              for (uint32_t i = 0; i < kDim; ++i) {
                got.push_back(
                    static_cast<float>(Load(cache, layout.dtype, plane + size_t{t} * kDim + i)));
              }
            }
          }
        }
        EXPECT_LT(RelativeError(got, want), 1e-5) << set << with_bias << with_norm;
      }
    }
  }
}

TEST(RopeKvStore, EncodersGiveTheBitsOfFloatBits) {
  std::vector<float> inputs;
  for (uint32_t upper = 0; upper < 0x10000; ++upper) {
    for (const uint32_t lower : {0u, 1u, 0x8000u, 0xffffu}) {
      inputs.push_back(FloatFromBits((upper << 16) | lower));
    }
  }
  const auto n = static_cast<uint32_t>(inputs.size());
  std::vector<uint16_t> half(n);
  std::vector<uint8_t> byte(n);
  for (const std::string& set : InstructionSets()) {
    const cpu::InstructionSet level = InstructionSetNamed(set);
    const auto encode = cpu::KernelsFor(level).rowwise.encode_kv;
    EXPECT_EQ(encode(inputs.data(), n, KvCacheDType::kBf16, 1.0f, half.data()), 0u);
    for (uint32_t i = 0; i < n; ++i) {
      if (std::isnan(inputs[i])) {  // dividing quiets a NaN
        ASSERT_TRUE(std::isnan(Bf16ToFloat(half[i])));
      } else {
        ASSERT_EQ(half[i], FloatToBf16(inputs[i])) << set << " " << inputs[i];
      }
    }
    EXPECT_EQ(encode(inputs.data(), n, KvCacheDType::kF16, 1.0f, half.data()), 0u);
    for (uint32_t i = 0; i < n; ++i) ASSERT_EQ(half[i], FloatToF16(inputs[i])) << set;
    uint64_t beyond = encode(inputs.data(), n, KvCacheDType::kF8E4M3, 1.0f, byte.data());
    for (uint32_t i = 0; i < n; ++i) {
      ASSERT_EQ(byte[i], FloatToF8E4M3(inputs[i])) << set << " " << inputs[i];
      beyond -= std::abs(inputs[i]) > kF8E4M3Max ? 1 : 0;
    }
    EXPECT_EQ(beyond, 0u) << set;
    beyond = encode(inputs.data(), n, KvCacheDType::kF8E5M2, 1.0f, byte.data());
    for (uint32_t i = 0; i < n; ++i) {
      ASSERT_EQ(byte[i], FloatToF8E5M2(inputs[i])) << set << " " << inputs[i];
      beyond -= std::abs(inputs[i]) > kF8E5M2Max ? 1 : 0;
    }
    EXPECT_EQ(beyond, 0u) << set;
  }
}

// exp as the sampler sees it, over every 256th float.
TEST(Exp, IsWithinTwoUlp) {
  for (const std::string& set : InstructionSets()) {
    const cpu::InstructionSet level = InstructionSetNamed(set);
    std::vector<float> inputs;
    for (uint32_t bits = 0; bits < FloatBits(88.7f); bits += 4096) {
      inputs.push_back(FloatFromBits(bits));
      if (FloatFromBits(bits) < 87.3f) inputs.push_back(-FloatFromBits(bits));
    }
    std::vector<float> out = inputs;
    std::vector<double> sums(out.size() / cpu::kSumChunk + 1);
    cpu::KernelsFor(level).sample.exp_in_place(out.data(), static_cast<uint32_t>(out.size()),
                                               sums.data());
    for (size_t i = 0; i < out.size(); ++i) {
      const double want = std::exp(double{inputs[i]});
      const auto nearest = static_cast<float>(want);
      const double ulp = std::nextafter(nearest, INFINITY) - double{nearest};
      ASSERT_LE(std::abs(out[i] - want), 2 * ulp) << set << " " << inputs[i];
    }
    float special[] = {-INFINITY, -200.0f, 0.0f, 89.0f, INFINITY, NAN};
    cpu::KernelsFor(level).sample.exp_in_place(special, 6, sums.data());
    EXPECT_EQ(special[0], 0.0f);
    EXPECT_EQ(special[1], 0.0f);
    EXPECT_EQ(special[2], 1.0f);
    EXPECT_EQ(special[3], INFINITY);
    EXPECT_EQ(special[4], INFINITY);
    EXPECT_TRUE(std::isnan(special[5]));
  }
}

}  // namespace
}  // namespace kvs
