#include "model/kv_cache.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace kvs {
namespace {

constexpr KvLayout kLayout = {.num_layers = 3,
                              .num_kv_heads = 2,
                              .head_dim = 32,
                              .block_size = 16,
                              .dtype = KvCacheDType::kF8E4M3};

TEST(KvCacheTest, GivesEachLayerItsBytesAndScales) {
  auto backend = *MakeCpuBackend({.num_threads = 1});
  const KvScales scales = {{1, 2, 3, 4, 5, 6}, {10, 20, 30, 40, 50, 60}};
  const auto cache = KvCache::Make(kLayout, 7, scales, *backend);
  ASSERT_TRUE(cache) << cache.error().message();
  EXPECT_EQ(cache->num_blocks(), 7u);
  for (uint32_t layer = 0; layer < 3; ++layer) {
    const KvView view = cache->View(layer);
    EXPECT_EQ(view.layout.block_size, 16u);
    for (uint32_t head = 0; head < 2; ++head) {
      EXPECT_EQ(view.k_scale[head], static_cast<float>(2 * layer + head + 1));
      EXPECT_EQ(view.v_scale[head], static_cast<float>(10 * (2 * layer + head + 1)));
    }
    // The null block and the last usable one are there.
    std::memset(view.data, static_cast<int>(layer) + 1, 8 * kLayout.LayerBlockBytes());
  }
  for (uint32_t layer = 0; layer < 3; ++layer) {
    const auto* bytes = static_cast<const uint8_t*>(cache->View(layer).data);
    EXPECT_EQ(bytes[0], layer + 1);
    EXPECT_EQ(bytes[8 * kLayout.LayerBlockBytes() - 1], layer + 1);
  }
}

TEST(KvCacheTest, RefusesMoreSlotsThanCanBeNumbered) {
  auto backend = *MakeCpuBackend({.num_threads = 1});
  const KvScales scales = {std::vector<float>(6, 1.0f), std::vector<float>(6, 1.0f)};
  for (const uint32_t num_blocks : {0u, (1u << 28) - 1, UINT32_MAX}) {
    const auto cache = KvCache::Make(kLayout, num_blocks, scales, *backend);
    ASSERT_FALSE(cache) << num_blocks;
    EXPECT_EQ(cache.error().code(), Code::kInvalidArgument);
  }
}

}  // namespace
}  // namespace kvs
