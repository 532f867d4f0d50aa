// Random token lists over a small BlockManager, against a model made of standard containers. With
// whole hashes the model foretells every block handed out and every hit; with truncated ones, where
// most hashes collide, it says which hits would be wrong.
#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <map>
#include <vector>

#include "blocks/block_manager.h"
#include "fuzz/fuzz_support.h"
#include "unit/schedule/fake_model.h"

namespace kvs {
namespace {

constexpr uint32_t kBlockSize = 4;

// The allocator as it is meant to be. A prefix is named by its digest.
class ShadowPool {
 public:
  explicit ShadowPool(uint32_t num_blocks) : ref_counts_(num_blocks + 1, 0) {
    for (uint32_t id = 1; id <= num_blocks; ++id) free_.push_back(id);
  }

  struct Entry {
    uint32_t block = 0;
    uint64_t generation = 0;  // names this block's content, until it is forgotten
    uint64_t parent_generation = 0;
  };

  uint32_t NextFree() const { return free_.front(); }
  void Take(uint32_t block) {
    ASSERT_EQ(ref_counts_[block], 0u) << "a held block was handed out";
    free_.remove(block);
    ForgetBlock(block);
    prefixes_.erase(block);
    ref_counts_[block] = 1;
  }
  void AddRef(uint32_t block) {
    if (ref_counts_[block]++ == 0) free_.remove(block);
  }
  void Release(uint32_t block) {
    ASSERT_GT(ref_counts_[block], 0u);
    if (--ref_counts_[block] > 0) return;
    if (IsCached(block)) {
      free_.push_back(block);
    } else {
      free_.push_front(block);
    }
  }
  // Returns the generation of the content.
  uint64_t Cache(uint32_t block, uint64_t prefix, uint64_t parent_generation) {
    prefixes_[block] = prefix;
    const auto it = cached_.find(prefix);
    if (it != cached_.end()) {
      if (it->second.parent_generation == parent_generation) return it->second.generation;
      const uint32_t orphan = it->second.block;
      cached_.erase(it);
      if (ref_counts_[orphan] == 0) {
        free_.remove(orphan);
        free_.push_front(orphan);
      }
    }
    cached_[prefix] = {block, ++last_generation_, parent_generation};
    return last_generation_;
  }
  const Entry* Find(uint64_t prefix, uint64_t parent_generation) const {
    const auto it = cached_.find(prefix);
    const bool found = it != cached_.end() && it->second.parent_generation == parent_generation;
    return found ? &it->second : nullptr;
  }
  // Whether the block was filled with this prefix since it was last handed out.
  bool Holds(uint32_t block, uint64_t prefix) const {
    const auto it = prefixes_.find(block);
    return it != prefixes_.end() && it->second == prefix;
  }
  void Reset() {
    cached_.clear();
    prefixes_.clear();
  }

 private:
  bool IsCached(uint32_t block) const {
    const auto it = prefixes_.find(block);
    if (it == prefixes_.end()) return false;
    const auto entry = cached_.find(it->second);
    return entry != cached_.end() && entry->second.block == block;
  }
  void ForgetBlock(uint32_t block) {
    if (IsCached(block)) cached_.erase(prefixes_.at(block));
  }

  std::vector<uint32_t> ref_counts_;
  std::list<uint32_t> free_;
  std::map<uint64_t, Entry> cached_;
  std::map<uint32_t, uint64_t> prefixes_;
  uint64_t last_generation_ = 0;
};

struct List {
  std::vector<TokenId> tokens;
  HashChain chain;
  std::vector<BlockId> table;
  std::vector<uint64_t> generations;  // of its full blocks, as the model names them
  uint32_t num_cached = 0;            // blocks handed to CacheFull, or adopted
};

class BlockFuzz {
 public:
  BlockFuzz(FuzzRandom& random, uint32_t num_blocks, uint32_t num_hash_bits)
      : random_(random),
        is_exact_(num_hash_bits == kBlockHashBits),
        manager_({.num_blocks = num_blocks,
                  .block_size = kBlockSize,
                  .hash_seed = 1,
                  .num_hash_bits = num_hash_bits}),
        shadow_(num_blocks) {}

  void Op() {
    const uint32_t op = random_.Below(100);
    if (op < 30 || lists_.empty()) {
      Start();
    } else if (op < 70) {
      Grow(lists_[random_.Below(static_cast<uint32_t>(lists_.size()))]);
    } else if (op < 99) {
      Finish(random_.Below(static_cast<uint32_t>(lists_.size())));
    } else {
      ASSERT_FALSE(manager_.Reset());
      if (random_.OneIn(10)) {
        while (!lists_.empty()) Finish(0);
        ASSERT_TRUE(manager_.Reset());
        shadow_.Reset();
      }
    }
    std::vector<std::span<const BlockId>> tables;
    for (const List& list : lists_) tables.push_back(list.table);
    manager_.CheckIntegrity(tables);
  }

  void End() {
    while (!lists_.empty()) Finish(0);
    manager_.CheckIntegrity({});
    ASSERT_EQ(manager_.pool().num_held(), 0u);
    ASSERT_TRUE(manager_.Reset());
  }

  uint64_t num_hits() const { return num_hits_; }
  const BlockPool& pool() const { return manager_.pool(); }

 private:
  uint64_t PrefixOf(const List& list, uint32_t block_idx) const {
    uint64_t digest = 0;
    for (uint32_t i = 0; i < (block_idx + 1) * kBlockSize; ++i) {
      digest = MixDigest(digest, list.tokens[i]);
    }
    return digest;
  }
  uint64_t ParentGeneration(const List& list, uint32_t block_idx) const {
    return block_idx == 0 ? 0 : list.generations[block_idx - 1];
  }

  // A list that shares its beginning with many others.
  void Start() {
    List list;
    const uint32_t num_tokens = random_.Between(1, 10 * kBlockSize);
    for (uint32_t i = 0; i < num_tokens; ++i) {
      list.tokens.push_back(TokenId{random_.OneIn(12) ? random_.Below(3) : i});
    }
    list.chain = manager_.MakeChain("");
    list.chain.Extend(list.tokens);
    const PrefixMatch match = manager_.MatchPrefix(list.chain, list.tokens);
    CheckMatch(list, match);
    const auto num_matched = static_cast<uint32_t>(match.blocks.size());
    if (!manager_.TryAdopt(match, list.table, num_tokens, random_.Below(3))) {
      ASSERT_TRUE(list.table.empty());
      return;
    }
    for (uint32_t i = 0; i < num_matched; ++i) shadow_.AddRef(list.table[i].value);
    for (uint32_t i = num_matched; i < list.table.size(); ++i) CheckTaken(list.table[i]);
    list.num_cached = num_matched;
    num_hits_ += num_matched;
    lists_.push_back(std::move(list));
  }

  void CheckMatch(List& list, const PrefixMatch& match) {
    uint64_t generation = 0;
    for (uint32_t i = 0; i < match.blocks.size(); ++i) {
      ASSERT_TRUE(shadow_.Holds(match.blocks[i].value, PrefixOf(list, i))) << "wrong hit";
      const auto* entry = shadow_.Find(PrefixOf(list, i), generation);
      if (is_exact_) {
        ASSERT_NE(entry, nullptr);
        ASSERT_EQ(entry->block, match.blocks[i].value);
      }
      generation = entry != nullptr ? entry->generation : 0;
      list.generations.push_back(generation);
    }
    const auto next = static_cast<uint32_t>(match.blocks.size());
    if (is_exact_ && next < list.chain.size()) {
      ASSERT_EQ(shadow_.Find(PrefixOf(list, next), generation), nullptr) << "missed hit";
    }
  }

  void CheckTaken(BlockId block) {
    if (is_exact_) {
      ASSERT_EQ(block.value, shadow_.NextFree());
    }
    shadow_.Take(block.value);
  }

  // Computes what the list has, then appends a few tokens when there is room.
  void Grow(List& list) {
    list.chain.Extend(list.tokens);
    const uint32_t end = list.chain.size();
    manager_.CacheFull(list.chain, list.tokens, list.table, list.num_cached, end);
    for (; list.num_cached < end; ++list.num_cached) {
      const uint32_t i = list.num_cached;
      list.generations.push_back(
          shadow_.Cache(list.table[i].value, PrefixOf(list, i), ParentGeneration(list, i)));
    }
    const size_t num_blocks = list.table.size();
    const uint32_t num_more = random_.Between(1, 2 * kBlockSize);
    const auto num_tokens = static_cast<uint32_t>(list.tokens.size()) + num_more;
    const uint32_t num_free = manager_.pool().num_free();
    const uint32_t num_needed = manager_.NumBlocksFor(num_tokens);
    const bool fits = num_needed - num_blocks <= num_free;
    ASSERT_EQ(manager_.TryGrow(list.table, num_tokens), fits);
    ASSERT_EQ(list.table.size(), fits ? num_needed : num_blocks);
    for (size_t i = num_blocks; i < list.table.size(); ++i) CheckTaken(list.table[i]);
    if (!fits) return;
    while (list.tokens.size() < num_tokens) list.tokens.push_back(TokenId{random_.Below(2)});
  }

  void Finish(uint32_t idx) {
    List& list = lists_[idx];
    for (size_t i = list.table.size(); i-- > 0;) shadow_.Release(list.table[i].value);
    manager_.Release(list.table);
    lists_.erase(lists_.begin() + idx);
  }

  FuzzRandom& random_;
  const bool is_exact_;
  BlockManager manager_;
  ShadowPool shadow_;
  std::vector<List> lists_;
  uint64_t num_hits_ = 0;
};

void RunBlockFuzz(const char* name, uint64_t seed, uint32_t num_hash_bits, uint64_t num_ops) {
  FuzzRandom random(name, seed);
  uint64_t num_hits = 0;
  uint64_t num_evicted = 0;
  uint64_t num_collisions = 0;
  for (uint64_t op = 0; op < num_ops && !::testing::Test::HasFatalFailure();) {
    BlockFuzz fuzz(random, random.Between(4, 80), num_hash_bits);
    for (uint32_t i = 0; i < 5000 && op < num_ops; ++i, ++op) {
      fuzz.Op();
      if (::testing::Test::HasFatalFailure()) FAIL() << "at operation " << op;
    }
    fuzz.End();
    num_hits += fuzz.num_hits();
    num_evicted += fuzz.pool().num_evicted();
    num_collisions += fuzz.pool().num_collisions();
  }
  std::printf("%s: %llu operations, %llu blocks hit, %llu evicted, %llu collisions\n", name,
              static_cast<unsigned long long>(num_ops), static_cast<unsigned long long>(num_hits),
              static_cast<unsigned long long>(num_evicted),
              static_cast<unsigned long long>(num_collisions));
  EXPECT_GT(num_hits, num_ops / 50);
  EXPECT_GT(num_evicted, num_ops / 100);
  EXPECT_EQ(num_collisions > 0, num_hash_bits < kBlockHashBits);
}

TEST(BlockFuzz, AgreesWithTheShadowPool) {
  RunBlockFuzz("whole hashes", 20240601, kBlockHashBits, 300'000 / kFuzzDivisor);
}

TEST(BlockFuzz, NeverHitsWronglyWithEightBitHashes) {
  RunBlockFuzz("8-bit hashes", 20240602, 8, 200'000 / kFuzzDivisor);
}

TEST(BlockFuzz, NeverHitsWronglyWithThreeBitHashes) {
  RunBlockFuzz("3-bit hashes", 20240603, 3, 100'000 / kFuzzDivisor);
}

}  // namespace
}  // namespace kvs
