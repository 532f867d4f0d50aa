#include "blocks/block_hash.h"

#include <xxhash.h>

#include <array>
#include <cstring>

#include "kvserve/check.h"

namespace kvs {
namespace {

constexpr size_t kPieceTokens = 16;  // the smallest block size that can be asked for

}  // namespace

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
  unsigned char* end = input.data() + sizeof(parent);
  // In pieces of a size known here, which needs no call, then the rest that odd sizes leave.
  while (tokens.size() >= kPieceTokens) {
    std::memcpy(end, tokens.data(), kPieceTokens * sizeof(TokenId));
    end += kPieceTokens * sizeof(TokenId);
    tokens = tokens.subspan(kPieceTokens);
  }
  if (!tokens.empty()) std::memcpy(end, tokens.data(), tokens.size_bytes());
  end += tokens.size_bytes();
  const XXH128_hash_t hash = XXH3_128bits(input.data(), static_cast<size_t>(end - input.data()));
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
  const auto num_blocks = static_cast<uint32_t>(tokens.size() / block_size_);
  KVS_CHECK_OP(num_blocks, >=, size());
  for (uint32_t block_idx = size(); block_idx < num_blocks; ++block_idx) {
    const auto block = tokens.subspan(size_t{block_idx} * block_size_, block_size_);
    hashes_.push_back(TruncateHash(HashBlock(ParentOf(block_idx), block), num_bits_));
  }
}

}  // namespace kvs
