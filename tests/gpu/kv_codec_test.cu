#include "gpu/gpu_test_util.h"
#include "gpu/kv_codec.cuh"

namespace kvs::gpu {
namespace {

constexpr uint32_t kThreads = 256;

// Eight neighbours of the 2^32 floats a thread: compares EncodeEight with float_bits.h.
template <class Codec>
__global__ void CompareAll(unsigned long long* num_wrong, unsigned long long* num_clipped) {
  const uint64_t first = (uint64_t{blockIdx.x} * kThreads + threadIdx.x) * 8;
  float values[8];
  for (uint32_t i = 0; i < 8; ++i) values[i] = FloatFromBits(static_cast<uint32_t>(first + i));
  alignas(16) typename Codec::Pair pairs[4];
  const uint32_t clipped = EncodeEight<Codec>(values, pairs);
  constexpr uint32_t kBits = 4 * sizeof(typename Codec::Pair);
  uint32_t wrong = 0;
  for (uint32_t i = 0; i < 4; ++i) {
    const uint32_t want = Codec::Encode(values[2 * i]) | Codec::Encode(values[2 * i + 1]) << kBits;
    wrong += pairs[i] != static_cast<typename Codec::Pair>(want) ? 1 : 0;
  }
  if (wrong > 0) atomicAdd(num_wrong, wrong);
  if (clipped > 0) atomicAdd(num_clipped, clipped);
}

template <class Codec>
void ExpectSameBits(uint64_t want_clipped) {
  const DeviceArray<unsigned long long> counts(std::vector<unsigned long long>{0, 0});
  constexpr auto kBlocks = static_cast<uint32_t>((uint64_t{1} << 32) / 8 / kThreads);
  CompareAll<Codec><<<kBlocks, kThreads>>>(counts.data(), counts.data() + 1);
  KVS_GPU(GetLastError());
  EXPECT_EQ(counts.ToHost()[0], 0u);
  EXPECT_EQ(counts.ToHost()[1], want_clipped);
}

TEST(GpuKvCodec, GivesTheBitsOfFloatBitsForEveryFloat) {
  const auto beyond = [](float limit) { return 2 * (uint64_t{0x7f800000} - FloatBits(limit)); };
  ExpectSameBits<KvBf16>(0);
  ExpectSameBits<KvF16>(0);
  ExpectSameBits<KvF8E4M3>(beyond(kF8E4M3Max));
  ExpectSameBits<KvF8E5M2>(beyond(kF8E5M2Max));
}

// One of the eight at a time is beyond what the conversion instructions are used for.
__global__ void EncodeMixed(float odd, uint8_t* out) {
  float values[8] = {1.0f, -2.0f, 0.017f, -0.0f, 448.0f, 3.3f, -1e-3f, 7.0f};
  for (uint32_t i = 0; i < 8; ++i) {
    if (i == threadIdx.x) values[i] = odd;
  }
  EncodeEight(values, KvCacheDType::kF8E4M3, out, 8 * threadIdx.x);
}

TEST(GpuKvCodec, OneValueBeyondTheRangeLeavesItsNeighboursAlone) {
  for (const float odd : {449.0f, -1e30f, __builtin_inff(), -__builtin_nanf("")}) {
    const DeviceArray<uint8_t> out(64);
    EncodeMixed<<<1, 8>>>(odd, out.data());
    KVS_GPU(GetLastError());
    const auto got = out.ToHost();
    for (uint32_t row = 0; row < 8; ++row) {
      float values[8] = {1.0f, -2.0f, 0.017f, -0.0f, 448.0f, 3.3f, -1e-3f, 7.0f};
      values[row] = odd;
      for (uint32_t i = 0; i < 8; ++i) {
        EXPECT_EQ(got[row * 8 + i], FloatToF8E4M3(values[i])) << odd << " " << row << " " << i;
      }
    }
  }
}

}  // namespace
}  // namespace kvs::gpu
