#include <cstring>

#include "gpu/gpu_test_util.h"
#include "gpu/ops.h"
#include "reference/naive.h"

namespace kvs::gpu {
namespace {

constexpr uint32_t kTokens = 21, kHeads = 6, kKvHeads = 2, kBlock = 16, kMaxPosition = 64;
constexpr uint32_t kUnits = kHeads + 2 * kKvHeads;
constexpr uint8_t kUntouched = 0xa5;
constexpr float kEps = 1e-3f;

// Inputs of one call. Token 4 is padding: its slot lies in the null block.
struct Problem {
  Problem(uint32_t dim, DType act_dtype, KvCacheDType kv_dtype)
      : head_dim(dim), act(act_dtype), layout{1, kKvHeads, dim, kBlock, kv_dtype} {
    Random random(dim);
    qkv = Encode16(random.Normals(size_t{kTokens} * kUnits * dim), act);
    const auto angles = random.Normals(size_t{kMaxPosition} * dim / 2);
    cos_sin.resize(size_t{kMaxPosition} * dim);
    for (uint32_t p = 0; p < kMaxPosition; ++p) {
      for (uint32_t i = 0; i < dim / 2; ++i) {
        cos_sin[p * dim + i] = std::cos(angles[p * dim / 2 + i]);
        cos_sin[p * dim + dim / 2 + i] = std::sin(angles[p * dim / 2 + i]);
      }
    }
    for (uint32_t t = 0; t < kTokens; ++t) {
      positions.push_back(t * 3);
      slots.push_back(t == 4 ? t : kBlock + (t * 5) % kTokens);
    }
  }

  uint32_t head_dim;
  DType act;
  KvLayout layout;
  std::vector<uint16_t> qkv;
  std::vector<float> cos_sin;
  std::vector<uint32_t> positions, slots;
  std::vector<float> qkv_bias, q_norm, k_norm;  // empty: none
  bool with_stats = false;
  std::vector<float> k_scale = {1.0f, 0.002f}, v_scale = {2.0f, 0.7f};
};

struct Outcome {
  std::vector<uint16_t> qkv;
  std::vector<uint8_t> cache;
  uint64_t num_saturated;
  std::vector<uint32_t> largest_bits, head_saturated, counts;  // KvStats, where asked for
};

Outcome RunOnDevice(const Problem& problem) {
  const DeviceArray<uint16_t> qkv(problem.qkv);
  const DeviceArray<uint32_t> positions(problem.positions), slots(problem.slots);
  const DeviceArray<float> cos_sin(problem.cos_sin);
  const DeviceArray<float> k_scale(problem.k_scale), v_scale(problem.v_scale);
  const DeviceArray<uint8_t> cache(
      std::vector<uint8_t>(3 * problem.layout.LayerBlockBytes(), kUntouched));
  const DeviceArray<uint64_t> num_saturated(std::vector<uint64_t>{100});
  RopeKvStoreParams params{};
  params.qkv = qkv.data();
  params.positions = positions.data();
  params.slot_mapping = reinterpret_cast<const SlotId*>(slots.data());
  params.cos_sin = cos_sin.data();
  params.kv = {cache.data(), k_scale.data(), v_scale.data(), problem.layout};
  params.num_tokens = kTokens;
  params.num_heads = kHeads;
  const DeviceArray<float> bias(problem.qkv_bias), q_norm(problem.q_norm), k_norm(problem.k_norm);
  if (!problem.qkv_bias.empty()) params.qkv_bias = bias.data();
  if (!problem.q_norm.empty()) params.q_norm = q_norm.data();
  if (!problem.k_norm.empty()) params.k_norm = k_norm.data();
  params.norm_eps = kEps;
  const DeviceArray<uint32_t> largest(std::vector<uint32_t>(2 * kKvHeads, 0));
  const DeviceArray<uint32_t> head_saturated(std::vector<uint32_t>(2 * kKvHeads, 5));
  const DeviceArray<uint32_t> counts(std::vector<uint32_t>(2 * kKvHeads * kKvStatsBins, 0));
  if (problem.with_stats) {
    params.kv.stats = {largest.data(), head_saturated.data(), counts.data()};
  }
  RopeKvStore(params, num_saturated.data(), TestLaunch(problem.act));
  return {qkv.ToHost(),     cache.ToHost(),          num_saturated.ToHost()[0],
          largest.ToHost(), head_saturated.ToHost(), counts.ToHost()};
}

// As the CPU computes it: float32, each product rounded.
std::vector<float> Rotated(const Problem& problem, uint32_t token, uint32_t unit) {
  const uint32_t dim = problem.head_dim, half = dim / 2;
  const auto begin = problem.qkv.begin() + (size_t{token} * kUnits + unit) * dim;
  std::vector<float> x = Decode16(std::vector<uint16_t>(begin, begin + dim), problem.act);
  for (uint32_t i = 0; i < dim && !problem.qkv_bias.empty(); ++i) {
    x[i] += problem.qkv_bias[unit * dim + i];
  }
  if (unit >= kHeads + kKvHeads) return x;
  const float* c = &problem.cos_sin[size_t{problem.positions[token]} * dim];
  std::vector<float> out(dim);
  for (uint32_t i = 0; i < half; ++i) {
    out[i] = x[i] * c[i] - x[i + half] * c[i + half];
    out[i + half] = x[i + half] * c[i] + x[i] * c[i + half];
  }
  return out;
}

// Stores one element; returns 1 where it was clipped.
uint64_t Store(float value, KvCacheDType dtype, size_t index, std::vector<uint8_t>& cache) {
  if (IsFp8(dtype)) {
    const bool e4m3 = dtype == KvCacheDType::kF8E4M3;
    cache[index] = e4m3 ? FloatToF8E4M3(value) : FloatToF8E5M2(value);
    return std::abs(value) > (e4m3 ? kF8E4M3Max : kF8E5M2Max) ? 1 : 0;
  }
  const uint16_t code = dtype == KvCacheDType::kBf16 ? FloatToBf16(value) : FloatToF16(value);
  std::memcpy(&cache[index * 2], &code, 2);
  return 0;
}

void Observe(float value, uint64_t clipped, uint32_t unit, Outcome& want) {
  const uint32_t bits = FloatBits(value) & 0x7fffffffu;
  want.largest_bits[unit] = std::max(want.largest_bits[unit], bits);
  want.head_saturated[unit] += static_cast<uint32_t>(clipped);
  ++want.counts[unit * kKvStatsBins + (bits >> 16)];
}

Outcome Expected(const Problem& problem) {
  const KvLayout& layout = problem.layout;
  Outcome want{problem.qkv,
               std::vector<uint8_t>(3 * layout.LayerBlockBytes(), kUntouched),
               100,
               std::vector<uint32_t>(2 * kKvHeads, 0),
               std::vector<uint32_t>(2 * kKvHeads, 5),
               std::vector<uint32_t>(2 * kKvHeads * kKvStatsBins, 0)};
  for (uint32_t t = 0; t < kTokens; ++t) {
    for (uint32_t unit = 0; unit < kHeads; ++unit) {
      const auto q = Encode16(Rotated(problem, t, unit), problem.act);
      std::copy(q.begin(), q.end(),
                want.qkv.begin() + (size_t{t} * kUnits + unit) * problem.head_dim);
    }
    const BlockId block{problem.slots[t] / kBlock};
    if (block == kNullBlock) continue;
    const size_t in_plane = size_t{problem.slots[t] % kBlock} * problem.head_dim;
    for (uint32_t head = 0; head < kKvHeads; ++head) {
      const auto k = Rotated(problem, t, kHeads + head);
      const auto v = Rotated(problem, t, kHeads + kKvHeads + head);
      for (uint32_t i = 0; i < problem.head_dim; ++i) {
        const size_t at = in_plane + i;
        const uint64_t k_clipped = Store(k[i] / problem.k_scale[head], layout.dtype,
                                         layout.KOffset(block, head) + at, want.cache);
        const uint64_t v_clipped = Store(v[i] / problem.v_scale[head], layout.dtype,
                                         layout.VOffset(block, head) + at, want.cache);
        want.num_saturated += k_clipped + v_clipped;
        Observe(k[i], k_clipped, head, want);
        Observe(v[i], v_clipped, kKvHeads + head, want);
      }
    }
  }
  return want;
}

TEST(GpuRopeKvStore, GivesTheBitsOfTheCpu) {
  for (const DType act : {DType::kBf16, DType::kF16}) {
    for (const uint32_t head_dim : {64u, 128u, 256u}) {
      for (const KvCacheDType dtype : {KvCacheDType::kBf16, KvCacheDType::kF16,
                                       KvCacheDType::kF8E4M3, KvCacheDType::kF8E5M2}) {
        const Problem problem(head_dim, act, dtype);
        const Outcome got = RunOnDevice(problem), want = Expected(problem);
        const std::string what = std::string(ToString(act)) + " " + std::to_string(head_dim) + " " +
                                 std::string(ToString(dtype));
        EXPECT_TRUE(got.qkv == want.qkv) << what;
        EXPECT_TRUE(got.cache == want.cache) << what;
        EXPECT_EQ(got.num_saturated, want.num_saturated) << what;
        if (dtype == KvCacheDType::kF8E4M3) {
          EXPECT_GT(want.num_saturated, 100u);
        }
      }
    }
  }
}

TEST(GpuRopeKvStore, GathersStatisticsWhereAskedFor) {
  for (const KvCacheDType dtype : {KvCacheDType::kF8E4M3, KvCacheDType::kBf16}) {
    Problem problem(64, DType::kBf16, dtype);
    problem.with_stats = true;
    const Outcome got = RunOnDevice(problem), want = Expected(problem);
    EXPECT_TRUE(got.cache == want.cache);
    EXPECT_EQ(got.num_saturated, want.num_saturated);
    EXPECT_EQ(got.largest_bits, want.largest_bits);
    EXPECT_EQ(got.head_saturated, want.head_saturated);
    EXPECT_TRUE(got.counts == want.counts);
  }
}

TEST(GpuRopeKvStore, AddsBias) {
  Problem problem(128, DType::kBf16, KvCacheDType::kF8E4M3);
  problem.qkv_bias = Random(3).Normals(size_t{kUnits} * 128);
  const Outcome got = RunOnDevice(problem), want = Expected(problem);
  EXPECT_TRUE(got.qkv == want.qkv);
  EXPECT_TRUE(got.cache == want.cache);
}

// Where Q or K is normalized, the other and V keep their bits. What is normalized is compared with
// its values rotated after a norm in float64.
TEST(GpuRopeKvStore, NormalizesQAndKBeforeRotation) {
  for (const uint32_t head_dim : {64u, 128u, 256u}) {
    for (const bool norm_q : {true, false}) {
      for (const bool norm_k : {true, false}) {
        Problem problem(head_dim, DType::kF16, KvCacheDType::kF16);
        problem.k_scale = problem.v_scale = {1.0f, 1.0f};
        Problem normalized = problem;
        const auto q_norm = Random(4).Normals(head_dim), k_norm = Random(5).Normals(head_dim);
        if (norm_q) problem.q_norm = q_norm;
        if (norm_k) problem.k_norm = k_norm;
        for (uint32_t i = 0; i < kTokens * kUnits; ++i) {
          const uint32_t unit = i % kUnits;
          const bool is_q = unit < kHeads;
          if (unit >= kHeads + kKvHeads || !(is_q ? norm_q : norm_k)) continue;
          const auto begin = normalized.qkv.begin() + size_t{i} * head_dim;
          const auto x = Decode16({begin, begin + head_dim}, problem.act);
          std::vector<double> head(x.begin(), x.end());
          head = naive::AddRmsNorm(&head, {}, is_q ? q_norm : k_norm, 1, kEps);
          for (uint32_t j = 0; j < head_dim; ++j) {
            begin[j] = FloatToF16(static_cast<float>(head[j]));
          }
        }
        const Outcome got = RunOnDevice(problem), want = Expected(normalized);
        const auto q = [&](const Outcome& outcome) {
          std::vector<uint16_t> codes;
          for (uint32_t t = 0; t < kTokens; ++t) {
            const auto begin = outcome.qkv.begin() + size_t{t} * kUnits * head_dim;
            codes.insert(codes.end(), begin, begin + kHeads * head_dim);
          }
          return Decode16(codes, DType::kF16);
        };
        const auto kv = [](const Outcome& outcome) {
          std::vector<uint16_t> codes(outcome.cache.size() / 2);
          std::memcpy(codes.data(), outcome.cache.data(), outcome.cache.size());
          return Decode16(codes, DType::kF16);
        };
        EXPECT_LT(RelativeRms(q(got), q(want)), norm_q ? 1e-3 : 1e-9) << head_dim << norm_k;
        EXPECT_LT(RelativeRms(kv(got), kv(want)), norm_k ? 1e-3 : 1e-9) << head_dim << norm_q;
      }
    }
  }
}

}  // namespace
}  // namespace kvs::gpu
