// BlockPool: reference counts, the free list in eviction order, and which blocks can be found by
// what they hold. Knows ids and token ids: no bytes, no dtype, no sequences.
//
// A block is held (ref count > 0) or free (0, in the free list). A full block may be *cached*: it
// has a hash and can be found, while held and after. Free blocks that are not cached are reused
// first, then cached ones, least recently freed first; reuse forgets (evicts) what they held.
//
// Not thread-safe: owned by the engine thread. All memory is taken at construction.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "base/huge_pages.h"
#include "blocks/block_hash.h"
#include "blocks/hash_index.h"
#include "kvserve/ids.h"

namespace kvs {

// Names the tokens of a full block together with every token before it: equal ids, equal prefixes.
// Given out by the pool and never reused, so that it proves what a parent hash only suggests.
using ContentId = Id<struct ContentIdTag, uint64_t>;
inline constexpr ContentId kNoContent{0};    // not full
inline constexpr ContentId kRootContent{1};  // before the first token

// What a full block holds and what came before it.
struct BlockKey {
  BlockHash hash;
  BlockHash parent_hash;            // the untruncated root for a first block
  ContentId parent_content;         // kRootContent for a first block
  std::span<const TokenId> tokens;  // block_size
};

class BlockPool {
 public:
  // Ids 1..num_blocks; 0 is the null block and never handed out.
  BlockPool(uint32_t num_blocks, uint32_t block_size);

  // Takes the first free block, evicting what it held. Nothing when every block is held: an
  // ordinary answer, not an error.
  std::optional<BlockId> Acquire();
  // One more reference, to a held block or to a free one that is cached.
  void AddRef(BlockId id);
  // Drops one reference. REQUIRES: ref_count(id) > 0.
  void Release(BlockId id);

  // The cached block that holds exactly `key`; kNullBlock when there is none. A block with the
  // same hash but other content is a collision: counted, and not found.
  BlockId Find(const BlockKey& key);
  // Makes a full block, held once, findable, and gives it a content id. When an equal block is
  // cached already, that one stays and this one, a duplicate, only shares its id. Other content
  // with the same hash is forgotten in favour of the new. REQUIRES: the parent has a content id.
  void Cache(BlockId id, const BlockKey& key);
  // Two steps of bringing what Find will touch towards the processor: where `hash` is looked up;
  // then, once that has arrived, the block found there and its tokens.
  void PrefetchSlot(const BlockHash& hash) const { index_.Prefetch(hash); }
  void PrefetchBlock(const BlockHash& hash) const;
  // Forgets every cached block; false, changing nothing, when a block is held.
  bool Reset();

  uint32_t num_blocks() const { return num_blocks_; }
  uint32_t block_size() const { return block_size_; }
  uint32_t num_free() const { return num_free_; }
  uint32_t num_held() const { return num_blocks_ - num_free_; }
  uint32_t num_cached_free() const { return num_cached_free_; }
  uint64_t num_evicted() const { return num_evicted_; }
  uint64_t num_collisions() const { return num_collisions_; }
  uint32_t ref_count(BlockId id) const { return blocks_[id.value].ref_count; }
  bool is_cached(BlockId id) const { return blocks_[id.value].is_cached; }
  ContentId content(BlockId id) const { return blocks_[id.value].content; }

  // Aborts unless lists, counts and index agree, and every cached block's tokens hash to its hash.
  // `num_hash_bits` as in TruncateHash.
  void CheckIntegrity(uint32_t num_hash_bits = kBlockHashBits) const;

 private:
  struct alignas(64) Block {
    BlockHash hash;  // with parent_hash and parent_content: meaningful while is_cached
    BlockHash parent_hash;
    ContentId parent_content = kNoContent;
    ContentId content = kNoContent;
    uint32_t ref_count = 0;
    uint32_t prev = 0;  // free list; blocks_[0] is its sentinel
    uint32_t next = 0;
    bool is_cached = false;
  };

  std::span<TokenId> TokensOf(uint32_t block);
  std::span<const TokenId> TokensOf(uint32_t block) const;
  bool SpellsSame(const Block& block, uint32_t id, const BlockKey& key) const;
  bool Holds(uint32_t id, const BlockKey& key) const;
  void CountCollision(uint32_t id, const BlockKey& key);
  void Forget(uint32_t id);  // a cached block is no longer findable
  void LinkAfter(uint32_t position, uint32_t block);
  void Unlink(uint32_t block);
  void CheckFreeList() const;
  void CheckCachedBlock(uint32_t id, uint32_t num_hash_bits) const;

  const uint32_t num_blocks_;
  const uint32_t block_size_;
  HugePageVector<Block> blocks_;    // [num_blocks + 1]
  HugePageVector<TokenId> tokens_;  // [num_blocks + 1][block_size], of cached blocks
  HashIndex<BlockId> index_;
  uint32_t num_free_ = 0;
  uint32_t num_cached_free_ = 0;
  uint64_t last_content_ = kRootContent.value;
  uint64_t num_evicted_ = 0;
  uint64_t num_collisions_ = 0;
};

}  // namespace kvs
