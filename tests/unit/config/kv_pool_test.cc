#include "config/kv_pool.h"

#include <gtest/gtest.h>

#include "parse_support.h"

namespace kvs::test {
namespace {

TEST(KvPool, Fp8HoldsExactlyTwiceTheBlocksOfBf16) {
  const ModelConfig config = SmallModel();
  for (const uint64_t bytes : {uint64_t{1} << 30, uint64_t{65536}, uint64_t{65535}, uint64_t{98304},
                               uint64_t{1000003}, uint64_t{123456789}}) {
    for (const uint32_t block_size : {16u, 32u, 64u}) {
      const auto blocks = [&](KvCacheDType dtype) {
        return BlocksInBytes(LayoutOf(config, block_size, dtype), bytes);
      };
      EXPECT_EQ(blocks(KvCacheDType::kF8E4M3), 2 * blocks(KvCacheDType::kBf16));
      EXPECT_EQ(blocks(KvCacheDType::kF8E5M2), 2 * blocks(KvCacheDType::kF16));
      EXPECT_EQ(blocks(KvCacheDType::kF32), blocks(KvCacheDType::kBf16) / 2);
    }
  }
}

TEST(KvPool, BlocksStayWithinTheBytes) {
  const ModelConfig config = SmallModel();
  for (const KvCacheDType dtype :
       {KvCacheDType::kBf16, KvCacheDType::kF32, KvCacheDType::kF8E4M3}) {
    const KvLayout layout = LayoutOf(config, 16, dtype);
    for (uint64_t bytes = 1; bytes < 1000000; bytes = bytes * 3 + 1) {
      EXPECT_LE(BlocksInBytes(layout, bytes) * layout.BlockBytes(), bytes);
    }
  }
}

TEST(KvPool, TheMachineHasMemory) { EXPECT_GT(AvailableMemoryBytes(), uint64_t{1} << 20); }

}  // namespace
}  // namespace kvs::test
