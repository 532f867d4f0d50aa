#include "blocks/block_hash.h"

#include <xxhash.h>

#include <array>
#include <cstring>

#include "kvserve/check.h"

namespace kvs {

BlockHash RootHash(uint64_t seed, uint64_t kv_identity, std::string_view scope) {
  const XXH128_hash_t of_scope = XXH3_128bits_withSeed(scope.data(), scope.size(), seed);
  const std::array<uint64_t, 3> input = {of_scope.low64, of_scope.high64, kv_identity};
  const XXH128_hash_t hash = XXH3_128bits_withSeed(input.data(), sizeof(input), seed);
  return {hash.low64, hash.high64};
}

BlockHash HashBlock(const BlockHash& parent, std::span<const TokenId> tokens) {
  KVS_CHECK_OP(tokens.size(), <=, size_t{kMaxBlockSize});
  // One flat input: a third of the time of the streaming interface at these sizes.
  std::array<unsigned char, sizeof(BlockHash) + kMaxBlockSize * sizeof(TokenId)> input;
  std::memcpy(input.data(), &parent, sizeof(parent));
  std::memcpy(input.data() + sizeof(parent), tokens.data(), tokens.size_bytes());
  const XXH128_hash_t hash = XXH3_128bits(input.data(), sizeof(parent) + tokens.size_bytes());
  return {hash.low64, hash.high64};
}

BlockHash TruncateHash(const BlockHash& hash, uint32_t num_bits) {
  if (num_bits == kBlockHashBits) return hash;
  KVS_CHECK_OP(num_bits, >, 0u);
  KVS_CHECK_OP(num_bits, <, 64u);
  return {hash.low & ((uint64_t{1} << num_bits) - 1), 0};
}

HashChain::HashChain(const BlockHash& root, uint32_t block_size, uint32_t num_bits)
    : root_(root), block_size_(block_size), num_bits_(num_bits) {
  KVS_CHECK_OP(block_size, >, 0u);
  KVS_CHECK_OP(block_size, <=, kMaxBlockSize);
}

void HashChain::Extend(std::span<const TokenId> tokens) {
  KVS_CHECK_OP(tokens.size() / block_size_, >=, hashes_.size());
  while (tokens.size() / block_size_ > hashes_.size()) {
    const uint32_t block_idx = size();
    const auto block = tokens.subspan(size_t{block_idx} * block_size_, block_size_);
    hashes_.push_back(TruncateHash(HashBlock(ParentOf(block_idx), block), num_bits_));
  }
}

}  // namespace kvs
