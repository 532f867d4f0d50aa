// BlockManager: block tables over a BlockPool. A table is a std::vector<BlockId> that the caller
// owns; it lists the blocks of a token list in order and only grows until it is released. Leading
// blocks may be given back before: the null block then stands for them.
//
// Not thread-safe: owned by the engine thread. Allocates nothing when tables have room.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "blocks/block_hash.h"
#include "blocks/block_pool.h"
#include "kvserve/ids.h"

namespace kvs {

struct BlockManagerConfig {
  uint32_t num_blocks = 0;
  uint32_t block_size = 0;
  uint64_t hash_seed = 0;
  uint64_t kv_identity = 0;                 // blocks computed under another one are never found
  uint32_t num_hash_bits = kBlockHashBits;  // tests force collisions with fewer
};

// The leading blocks of a token list that are cached. They are not referenced: any Grow or Adopt
// may evict them. `blocks` is valid until the next MatchPrefix.
struct PrefixMatch {
  std::span<const BlockId> blocks;
  uint32_t num_free = 0;  // of them held by nobody
};

class BlockManager {
 public:
  explicit BlockManager(const BlockManagerConfig& config);

  // An empty chain rooted in the process's seed and `scope`.
  HashChain MakeChain(std::string_view scope) const;

  // Looks `chain`'s blocks up until the first that is not cached. `tokens` are those of `chain`.
  PrefixMatch MatchPrefix(const HashChain& chain, std::span<const TokenId> tokens);
  // Starts a table: references the matched blocks and takes new ones so that `num_tokens` fit,
  // leaving at least `num_spare` blocks free. All or nothing. REQUIRES: an empty table; the match
  // is the last one made, cut at its end or not at all.
  bool TryAdopt(const PrefixMatch& match, std::vector<BlockId>& table, uint32_t num_tokens,
                uint32_t num_spare);
  // Takes the blocks that `num_tokens` need beyond those in the table. All or nothing.
  bool TryGrow(std::vector<BlockId>& table, uint32_t num_tokens);
  // Caches blocks [begin, end) of a table, all of whose tokens are computed. A block whose content
  // is cached already is kept as it is.
  void CacheFull(const HashChain& chain, std::span<const TokenId> tokens,
                 std::span<const BlockId> table, uint32_t begin, uint32_t end);
  // Gives the blocks back, tail first, so that a prefix outlives its continuations.
  void Release(std::vector<BlockId>& table);
  // Gives blocks [begin, end) back, in the same order; null blocks take their places.
  void ReleaseLeading(std::span<BlockId> table, uint32_t begin, uint32_t end);
  // Forgets cached blocks; false, changing nothing, when a block is held.
  bool Reset() { return pool_.Reset(); }

  uint32_t NumBlocksFor(uint32_t num_tokens) const {
    return num_tokens / pool_.block_size() + (num_tokens % pool_.block_size() != 0 ? 1 : 0);
  }
  const BlockPool& pool() const { return pool_; }

  // Aborts unless the pool is sound and every block has as many references as `tables` list it.
  void CheckIntegrity(std::span<const std::span<const BlockId>> tables) const;

 private:
  BlockKey KeyOf(const HashChain& chain, std::span<const TokenId> tokens, uint32_t block_idx,
                 ContentId parent_content) const;

  const BlockManagerConfig config_;
  BlockPool pool_;
  std::vector<BlockId> matched_;  // reserved to num_blocks
};

}  // namespace kvs
