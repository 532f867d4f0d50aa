// Block hashes: XXH3-128 over (parent hash, the block's token ids), so that a hash names a block's
// tokens and every token before them. The only door to xxHash.
//
// XXH3 is fast, not cryptographic: a hash finds a candidate, BlockPool::Find compares the tokens.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "kvserve/ids.h"

namespace kvs {

struct BlockHash {
  uint64_t low = 0;
  uint64_t high = 0;
  friend constexpr bool operator==(const BlockHash&, const BlockHash&) = default;
};

// Largest block that can be hashed, in tokens.
inline constexpr uint32_t kMaxBlockSize = 64;
inline constexpr uint32_t kBlockHashBits = 128;

// The parent of a first block. `seed` is random per process; `kv_identity` stands for how keys and
// values are stored (dtypes, scales); `scope` separates tenants.
BlockHash RootHash(uint64_t seed, uint64_t kv_identity, std::string_view scope);

// REQUIRES: tokens.size() <= kMaxBlockSize.
BlockHash HashBlock(const BlockHash& parent, std::span<const TokenId> tokens);

// Keeps the lowest `num_bits` (1..63, or kBlockHashBits for all): tests force collisions with it.
BlockHash TruncateHash(const BlockHash& hash, uint32_t num_bits);

// The hashes of the leading full blocks of one growing list of tokens.
class HashChain {
 public:
  HashChain() = default;
  HashChain(const BlockHash& root, uint32_t block_size, uint32_t num_bits = kBlockHashBits);

  // Room for so many blocks: Extend allocates nothing up to there.
  void Reserve(uint32_t num_blocks) { hashes_.reserve(num_blocks); }
  // Hashes the blocks that became full since the last call. REQUIRES: `tokens` starts with the
  // tokens of every earlier call.
  void Extend(std::span<const TokenId> tokens);

  uint32_t size() const { return static_cast<uint32_t>(hashes_.size()); }
  const BlockHash& operator[](uint32_t block_idx) const { return hashes_[block_idx]; }
  const BlockHash& ParentOf(uint32_t block_idx) const {
    return block_idx == 0 ? root_ : hashes_[block_idx - 1];
  }

 private:
  BlockHash root_;
  uint32_t block_size_ = 0;
  uint32_t num_bits_ = kBlockHashBits;
  std::vector<BlockHash> hashes_;
};

}  // namespace kvs
