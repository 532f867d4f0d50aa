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
  KvScaleSet scales = KvScaleSet::Default(kLayout);
  scales.scales = {{1, 2, 3, 4, 5, 6}, {10, 20, 30, 40, 50, 60}};
  auto cache = KvCache::Make(kLayout, 7, {}, *backend);
  ASSERT_TRUE(cache) << cache.error().message();
  cache->SetScales(scales, *backend);
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

TEST(KvCacheTest, LayersKeptInBf16HaveTheirOwnLayoutAndNoScale) {
  auto backend = *MakeCpuBackend({.num_threads = 1});
  KvLayout layout = kLayout;
  layout.num_bf16_layers = 1;
  auto cache = KvCache::Make(layout, 7, {1}, *backend);
  ASSERT_TRUE(cache) << cache.error().message();
  EXPECT_EQ(layout.BlockBytes(), 4 * kLayout.LayerBlockBytes()) << "one layer of three is twice";
  KvScaleSet scales = KvScaleSet::Default(layout);
  scales.scales = {{2, 2, 2, 2, 2, 2}, {3, 3, 3, 3, 3, 3}};
  cache->SetScales(scales, *backend);
  EXPECT_EQ(cache->View(0).layout.dtype, KvCacheDType::kF8E4M3);
  EXPECT_EQ(cache->View(1).layout.dtype, KvCacheDType::kBf16);
  EXPECT_EQ(cache->View(0).k_scale[1], 2.0f);
  EXPECT_EQ(cache->View(1).k_scale[1], 1.0f);
  EXPECT_EQ(cache->View(1).v_scale[0], 1.0f);
  std::memset(cache->View(1).data, 1, 8 * layout.As(KvCacheDType::kBf16).LayerBlockBytes());
}

TEST(KvCacheTest, IdentityFollowsScalesAndDtypes) {
  auto backend = *MakeCpuBackend({.num_threads = 1});
  auto cache = *KvCache::Make(kLayout, 7, {}, *backend);
  auto same = *KvCache::Make(kLayout, 9, {}, *backend);
  EXPECT_EQ(cache.Identity(), same.Identity()) << "the pool's size is not part of it";
  const uint64_t before = cache.Identity();
  KvScaleSet scales = KvScaleSet::Default(kLayout);
  scales.scales.v[5] = 1.0000001f;
  cache.SetScales(scales, *backend);
  EXPECT_NE(cache.Identity(), before);
  std::swap(scales.scales.k, scales.scales.v);
  const uint64_t of_v = cache.Identity();
  cache.SetScales(scales, *backend);
  EXPECT_NE(cache.Identity(), of_v);
  EXPECT_NE((*KvCache::Make(kLayout.As(KvCacheDType::kF8E5M2), 7, {}, *backend)).Identity(),
            before);
}

TEST(KvCacheTest, RefusesMoreSlotsThanCanBeNumbered) {
  auto backend = *MakeCpuBackend({.num_threads = 1});
  for (const uint32_t num_blocks : {0u, (1u << 28) - 1, UINT32_MAX}) {
    const auto cache = KvCache::Make(kLayout, num_blocks, {}, *backend);
    ASSERT_FALSE(cache) << num_blocks;
    EXPECT_EQ(cache.error().code(), Code::kInvalidArgument);
  }
}

}  // namespace
}  // namespace kvs
