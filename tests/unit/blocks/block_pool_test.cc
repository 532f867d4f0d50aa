#include "blocks/block_pool.h"

#include <gtest/gtest.h>

#include <array>

namespace kvs {
namespace {

constexpr uint32_t kPoolBlockSize = 4;
using BlockTokens = std::array<TokenId, kPoolBlockSize>;

BlockTokens Fill(uint32_t value) {
  return {TokenId{value}, TokenId{value}, TokenId{1}, TokenId{2}};
}

const BlockHash kRoot = RootHash(5, 0, "");

BlockKey FirstKey(const BlockTokens& tokens) {
  return {HashBlock(kRoot, tokens), kRoot, kRootContent, tokens};
}

BlockId AcquireCached(BlockPool& pool, const BlockTokens& tokens) {
  const BlockId id = *pool.Acquire();
  pool.Cache(id, FirstKey(tokens));
  return id;
}

TEST(BlockPool, HandsOutEveryBlockOnceAndNeverTheNullBlock) {
  BlockPool pool(3, kPoolBlockSize);
  EXPECT_EQ(pool.Acquire(), BlockId{1});
  EXPECT_EQ(pool.Acquire(), BlockId{2});
  EXPECT_EQ(pool.Acquire(), BlockId{3});
  EXPECT_EQ(pool.Acquire(), std::nullopt);
  EXPECT_EQ(pool.num_held(), 3u);
  pool.CheckIntegrity();
}

TEST(BlockPool, ACachedBlockIsFoundWhileHeldAndAfter) {
  BlockPool pool(2, kPoolBlockSize);
  const BlockTokens tokens = Fill(7);
  const BlockId id = AcquireCached(pool, tokens);
  EXPECT_EQ(pool.Find(FirstKey(tokens)), id);
  pool.Release(id);
  EXPECT_EQ(pool.num_cached_free(), 1u);
  EXPECT_EQ(pool.Find(FirstKey(tokens)), id);
  pool.AddRef(id);
  EXPECT_EQ(pool.num_cached_free(), 0u);
  EXPECT_EQ(pool.ref_count(id), 1u);
  EXPECT_EQ(pool.Find(FirstKey(Fill(8))), kNullBlock);
  EXPECT_EQ(pool.num_collisions(), 0u);
  pool.CheckIntegrity();
}

TEST(BlockPool, ReusesUncachedBlocksFirstThenTheLeastRecentlyFreed) {
  BlockPool pool(4, kPoolBlockSize);
  const BlockId a = AcquireCached(pool, Fill(1));
  const BlockId b = AcquireCached(pool, Fill(2));
  const BlockId plain = *pool.Acquire();
  const BlockId other = *pool.Acquire();
  pool.Release(b);
  pool.Release(plain);
  pool.Release(a);
  EXPECT_EQ(pool.Acquire(), plain);
  EXPECT_EQ(pool.num_evicted(), 0u);
  EXPECT_EQ(pool.Acquire(), b);
  EXPECT_EQ(pool.num_evicted(), 1u);
  EXPECT_EQ(pool.Find(FirstKey(Fill(2))), kNullBlock);
  EXPECT_EQ(pool.Find(FirstKey(Fill(1))), a);
  EXPECT_EQ(pool.ref_count(other), 1u);
  pool.CheckIntegrity();
}

TEST(BlockPool, AHitMakesABlockRecentAgain) {
  BlockPool pool(2, kPoolBlockSize);
  const BlockId a = AcquireCached(pool, Fill(1));
  const BlockId b = AcquireCached(pool, Fill(2));
  pool.Release(a);
  pool.Release(b);
  pool.AddRef(a);
  pool.Release(a);
  EXPECT_EQ(pool.Acquire(), b);
}

TEST(BlockPool, ADuplicateIsKeptButNotFound) {
  BlockPool pool(3, kPoolBlockSize);
  const BlockId a = AcquireCached(pool, Fill(1));
  const BlockId duplicate = AcquireCached(pool, Fill(1));
  EXPECT_NE(a, duplicate);
  EXPECT_EQ(pool.Find(FirstKey(Fill(1))), a);
  EXPECT_FALSE(pool.is_cached(duplicate));
  EXPECT_EQ(pool.content(duplicate), pool.content(a));
  pool.CheckIntegrity();
}

TEST(BlockPool, ACollisionIsCountedAndMissed) {
  BlockPool pool(2, kPoolBlockSize);
  const BlockTokens tokens = Fill(1);
  const BlockTokens others = Fill(2);
  BlockKey key = FirstKey(tokens);
  const BlockId id = *pool.Acquire();
  pool.Cache(id, key);
  BlockKey forged = FirstKey(others);
  forged.hash = key.hash;
  EXPECT_EQ(pool.Find(forged), kNullBlock);
  EXPECT_EQ(pool.num_collisions(), 1u);
  forged = key;
  forged.parent_hash.high ^= 1;
  EXPECT_EQ(pool.Find(forged), kNullBlock);
  EXPECT_EQ(pool.num_collisions(), 2u);
  EXPECT_EQ(pool.Find(key), id);
}

// Two first blocks with one hash: what follows the one must not be found after the other.
TEST(BlockPool, AChildIsFoundAfterItsOwnParentOnly) {
  BlockPool pool(4, kPoolBlockSize);
  const BlockTokens first = Fill(1);
  const BlockTokens second = Fill(2);
  const BlockTokens child = Fill(3);
  const BlockHash shared{99, 0};
  const BlockId a = *pool.Acquire();
  pool.Cache(a, {shared, kRoot, kRootContent, first});
  const ContentId content_of_first = pool.content(a);
  const BlockKey child_of_first{HashBlock(shared, child), shared, content_of_first, child};
  pool.Cache(*pool.Acquire(), child_of_first);
  EXPECT_NE(pool.Find(child_of_first), kNullBlock);

  const BlockId b = *pool.Acquire();
  pool.Cache(b, {shared, kRoot, kRootContent, second});
  EXPECT_EQ(pool.Find({shared, kRoot, kRootContent, second}), b);  // the newer took it over
  EXPECT_FALSE(pool.is_cached(a));
  BlockKey child_of_second = child_of_first;
  child_of_second.parent_content = pool.content(b);
  EXPECT_EQ(pool.Find(child_of_second), kNullBlock);
}

// A child that was held while its parent was evicted gives way when both are computed anew.
TEST(BlockPool, AnOrphanIsReplacedAndIsNoCollision) {
  BlockPool pool(4, kPoolBlockSize);
  const BlockTokens parent = Fill(1);
  const BlockTokens child = Fill(2);
  const BlockId old_parent = AcquireCached(pool, parent);
  const BlockHash child_hash = HashBlock(FirstKey(parent).hash, child);
  const BlockId orphan = *pool.Acquire();
  BlockKey key{child_hash, FirstKey(parent).hash, pool.content(old_parent), child};
  pool.Cache(orphan, key);
  pool.Release(old_parent);
  const BlockId x = *pool.Acquire();
  const BlockId y = *pool.Acquire();
  const BlockId new_parent = *pool.Acquire();  // evicts the parent: two were never used
  ASSERT_EQ(new_parent, old_parent);
  pool.Release(x);
  pool.Release(orphan);
  pool.Cache(new_parent, FirstKey(parent));
  key.parent_content = pool.content(new_parent);
  EXPECT_EQ(pool.Find(key), kNullBlock);
  const BlockId new_child = *pool.Acquire();
  pool.Cache(new_child, key);
  EXPECT_EQ(pool.Find(key), new_child);
  EXPECT_FALSE(pool.is_cached(orphan));
  EXPECT_EQ(pool.num_collisions(), 0u);
  EXPECT_EQ(pool.num_cached_free(), 0u);
  pool.CheckIntegrity();
  pool.Release(y);
}

TEST(BlockPool, ResetForgetsUnlessABlockIsHeld) {
  BlockPool pool(2, kPoolBlockSize);
  const BlockId id = AcquireCached(pool, Fill(1));
  EXPECT_FALSE(pool.Reset());
  EXPECT_EQ(pool.Find(FirstKey(Fill(1))), id);
  pool.Release(id);
  EXPECT_TRUE(pool.Reset());
  EXPECT_EQ(pool.Find(FirstKey(Fill(1))), kNullBlock);
  EXPECT_EQ(pool.num_cached_free(), 0u);
  pool.CheckIntegrity();
}

TEST(BlockPoolDeathTest, MisuseAborts) {
  BlockPool pool(2, kPoolBlockSize);
  EXPECT_DEATH(pool.Release(kNullBlock), "check failed");
  EXPECT_DEATH(pool.Release(BlockId{1}), "check failed");
  EXPECT_DEATH(pool.Release(BlockId{3}), "check failed");
  EXPECT_DEATH(pool.AddRef(BlockId{1}), "check failed");  // free, and holds nothing
  const BlockId id = *pool.Acquire();
  pool.Release(id);
  EXPECT_DEATH(pool.Release(id), "check failed");
}

}  // namespace
}  // namespace kvs
