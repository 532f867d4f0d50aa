#include "blocks/hash_index.h"

#include <gtest/gtest.h>

#include <random>
#include <unordered_map>

namespace kvs {
namespace {

TEST(HashIndex, AgreesWithAMapUnderClustering) {
  constexpr uint32_t kCapacity = 64;
  // Few distinct homes (low bits), so that erasure has to close gaps in long runs.
  std::mt19937_64 random(11);
  HashIndex<uint32_t> index(kCapacity);
  std::unordered_map<uint64_t, uint32_t> model;
  const auto hash_of = [](uint64_t key) { return BlockHash{key % 5 + (key % 2) * 125, key}; };
  for (uint32_t op = 1; op <= 100'000; ++op) {
    const uint64_t key = random() % 100;
    const auto it = model.find(key);
    ASSERT_EQ(index.Find(hash_of(key)), it == model.end() ? 0u : it->second);
    if (it != model.end()) {
      index.Erase(hash_of(key));
      model.erase(it);
    } else if (model.size() < kCapacity) {
      index.Insert(hash_of(key), op);
      model[key] = op;
    }
    ASSERT_EQ(index.size(), model.size());
  }
  index.Clear();
  EXPECT_EQ(index.size(), 0u);
  for (uint64_t key = 0; key < 100; ++key) EXPECT_EQ(index.Find(hash_of(key)), 0u);
}

TEST(HashIndexDeathTest, RefusesMisuse) {
  HashIndex<uint32_t> index(1);
  EXPECT_DEATH(index.Erase(BlockHash{1, 1}), "check failed");
  EXPECT_DEATH(index.Insert(BlockHash{1, 1}, 0), "check failed");
  index.Insert(BlockHash{1, 1}, 9);
  EXPECT_DEATH(index.Insert(BlockHash{2, 2}, 9), "check failed");
}

}  // namespace
}  // namespace kvs
