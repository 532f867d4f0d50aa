// Statistics of keys and values against counting what a float32 cache holds.
#include "cpu/kv_stats.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/kernel_test_util.h"
#include "kvserve/float_bits.h"

namespace kvs {
namespace {

constexpr uint32_t kTokens = 37, kHeads = 3, kKvHeads = 2, kDim = 34, kBlock = 16;
constexpr uint32_t kRow = (kHeads + 2 * kKvHeads) * kDim;
constexpr uint32_t kNumBlocks = 4;  // the null block included

// A batch of tokens and a cache to store them in, with memory for their statistics.
class Batch {
 public:
  explicit Batch(KvCacheDType dtype) : layout_{1, kKvHeads, kDim, kBlock, dtype} {
    Random random(7);
    qkv = random.Normals(kTokens * kRow, 30.0f);
    const auto angles = random.Normals(kTokens * kDim / 2);
    for (uint32_t p = 0; p < kTokens; ++p) {
      for (uint32_t i = 0; i < kDim; ++i) {
        const float angle = angles[p * (kDim / 2) + i % (kDim / 2)];
        cos_sin_.push_back(i < kDim / 2 ? std::cos(angle) : std::sin(angle));
      }
      positions_.push_back(p);
      slots_.push_back(SlotId{kBlock + p});
    }
    cache_.resize(kNumBlocks * layout_.LayerBlockBytes());
  }

  void Store(const std::string& set, uint32_t num_threads, bool with_counts = true) {
    std::vector<float> work = qkv;
    MakeBackend(set, num_threads)
        ->RopeKvStore({work.data(),
                       positions_.data(),
                       slots_.data(),
                       cos_sin_.data(),
                       {cache_.data(),
                        k_scale.data(),
                        v_scale.data(),
                        layout_,
                        {largest.data(), saturated.data(), with_counts ? counts.data() : nullptr}},
                       &num_saturated,
                       kTokens,
                       kHeads});
  }

  // Every stored element of head `index` (K's heads, then V's), of a float32 cache.
  std::vector<float> Stored(uint32_t index) const {
    std::vector<float> values;
    const auto* data = reinterpret_cast<const float*>(cache_.data());
    for (const SlotId slot : slots_) {
      const BlockId block{slot.value / kBlock};
      const uint32_t head = index % kKvHeads;
      const size_t plane =
          index < kKvHeads ? layout_.KOffset(block, head) : layout_.VOffset(block, head);
      const float* row = data + plane + size_t{slot.value % kBlock} * kDim;
      values.insert(values.end(), row, row + kDim);
    }
    return values;
  }

  std::vector<float> qkv;
  std::vector<float> k_scale = {1.0f, 1.0f}, v_scale = {1.0f, 1.0f};
  std::vector<uint32_t> largest = std::vector<uint32_t>(2 * kKvHeads);
  std::vector<uint32_t> saturated = std::vector<uint32_t>(2 * kKvHeads);
  std::vector<uint32_t> counts = std::vector<uint32_t>(2 * kKvHeads * kKvStatsBins);
  uint64_t num_saturated = 0;

 private:
  KvLayout layout_;
  std::vector<float> cos_sin_;
  std::vector<uint32_t> positions_;
  std::vector<SlotId> slots_;
  std::vector<uint8_t> cache_;
};

TEST(KvStats, AreThoseOfWhatAFloat32CacheHolds) {
  for (const std::string& set : InstructionSets()) {
    Batch batch(KvCacheDType::kF32);
    batch.Store(set, 2);
    for (uint32_t index = 0; index < 2 * kKvHeads; ++index) {
      std::vector<uint32_t> want(kKvStatsBins);
      float largest = 0.0f;
      for (const float value : batch.Stored(index)) {
        ++want[FloatBits(std::fabs(value)) >> 16];
        largest = std::max(largest, std::fabs(value));
      }
      EXPECT_EQ(FloatFromBits(batch.largest[index]), largest) << set;
      EXPECT_TRUE(std::equal(want.begin(), want.end(),
                             batch.counts.begin() + ptrdiff_t{index} * kKvStatsBins))
          << set << " head " << index;
      EXPECT_EQ(batch.saturated[index], 0u);
    }
  }
}

TEST(KvStats, CountClippedElementsPerHeadAsTheEncoderDoes) {
  for (const KvCacheDType dtype : {KvCacheDType::kF8E4M3, KvCacheDType::kF8E5M2}) {
    Batch batch(dtype);
    batch.k_scale =
        dtype == KvCacheDType::kF8E4M3 ? std::vector{0.1f, 1.0f} : std::vector{0.001f, 1.0f};
    batch.qkv[kHeads * kDim + 2 * kDim] = INFINITY;  // a value of head 0: clipped
    batch.qkv[kHeads * kDim + 3 * kDim] = NAN;       // of head 1: stored as NaN
    batch.Store("auto", 2);
    EXPECT_GT(batch.saturated[0], 0u);
    EXPECT_EQ(batch.saturated[1], 0u);
    EXPECT_EQ(batch.saturated[2], 1u);
    EXPECT_EQ(batch.saturated[3], 0u);
    EXPECT_EQ(batch.saturated[0] + batch.saturated[2], batch.num_saturated);
    EXPECT_TRUE(std::isnan(FloatFromBits(batch.largest[3]))) << "NaN is larger than any number";
  }
}

TEST(KvStats, AddUpOverCallsAndDoNotDependOnThreads) {
  Batch once(KvCacheDType::kF32);
  once.Store("auto", 1);
  Batch twice(KvCacheDType::kF32);
  twice.Store("auto", 3);
  twice.Store("auto", 2);
  EXPECT_EQ(once.largest, twice.largest);
  for (size_t i = 0; i < once.counts.size(); ++i) ASSERT_EQ(2 * once.counts[i], twice.counts[i]);
}

TEST(KvStats, CountsMayBeLeftOut) {
  Batch with(KvCacheDType::kF32), without(KvCacheDType::kF32);
  with.Store("auto", 2);
  without.Store("auto", 2, false);
  EXPECT_EQ(with.largest, without.largest);
  EXPECT_EQ(std::count(without.counts.begin(), without.counts.end(), 0u),
            static_cast<ptrdiff_t>(without.counts.size()));
}

}  // namespace
}  // namespace kvs
