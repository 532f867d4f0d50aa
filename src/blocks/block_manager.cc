#include "blocks/block_manager.h"

#include <algorithm>
#include <utility>

#include "kvserve/check.h"

namespace kvs {
namespace {

// How far ahead of a block's lookup its index slot and then the block itself are asked for: each
// about one memory latency of lookups before it is used.
constexpr uint32_t kSlotDistance = 16;
constexpr uint32_t kBlockDistance = 8;

}  // namespace

BlockManager::BlockManager(const BlockManagerConfig& config)
    : config_(config), pool_(config.num_blocks, config.block_size) {
  matched_.reserve(config.num_blocks);
}

HashChain BlockManager::MakeChain(std::string_view scope) const {
  return HashChain(RootHash(config_.hash_seed, config_.kv_identity, scope), config_.block_size,
                   config_.num_hash_bits);
}

PrefixMatch BlockManager::MatchPrefix(const HashChain& chain, std::span<const TokenId> tokens) {
  matched_.clear();
  uint32_t num_free = 0;
  ContentId content = kRootContent;
  for (uint32_t i = 0; i < chain.size(); ++i) {
    if (i + kSlotDistance < chain.size()) pool_.PrefetchSlot(chain[i + kSlotDistance]);
    if (i + kBlockDistance < chain.size()) pool_.PrefetchBlock(chain[i + kBlockDistance]);
    const BlockId block = pool_.Find(KeyOf(chain, tokens, i, content));
    if (block == kNullBlock) break;
    content = pool_.content(block);
    num_free += pool_.ref_count(block) == 0 ? 1 : 0;
    matched_.push_back(block);
  }
  return {matched_, num_free};
}

bool BlockManager::TryAdopt(const PrefixMatch& match, std::vector<BlockId>& table,
                            uint32_t num_tokens, uint32_t num_spare) {
  KVS_CHECK(table.empty());
  const uint32_t num_needed = NumBlocksFor(num_tokens);
  KVS_CHECK_OP(match.blocks.size(), <=, size_t{num_needed});
  const uint64_t num_new = num_needed - match.blocks.size();
  if (match.num_free + num_new + num_spare > pool_.num_free()) return false;
  for (const BlockId block : match.blocks) {
    pool_.AddRef(block);
    table.push_back(block);
  }
  KVS_CHECK(TryGrow(table, num_tokens));
  return true;
}

bool BlockManager::TryGrow(std::vector<BlockId>& table, uint32_t num_tokens) {
  const uint32_t num_needed = NumBlocksFor(num_tokens);
  if (num_needed <= table.size()) return true;
  if (num_needed - table.size() > pool_.num_free()) return false;
  while (table.size() < num_needed) {
    const auto block = pool_.Acquire();
    KVS_CHECK(block.has_value());
    table.push_back(*block);
  }
  return true;
}

void BlockManager::CacheFull(const HashChain& chain, std::span<const TokenId> tokens,
                             std::span<const BlockId> table, uint32_t begin, uint32_t end) {
  KVS_CHECK_OP(end, <=, chain.size());
  KVS_CHECK_OP(size_t{end}, <=, table.size());
  for (uint32_t i = begin; i < end; ++i) {
    const ContentId parent = i == 0 ? kRootContent : pool_.content(table[i - 1]);
    pool_.Cache(table[i], KeyOf(chain, tokens, i, parent));
  }
}

void BlockManager::Release(std::vector<BlockId>& table) {
  while (!table.empty()) {
    if (table.back() != kNullBlock) pool_.Release(table.back());
    table.pop_back();
  }
}

void BlockManager::ReleaseLeading(std::span<BlockId> table, uint32_t begin, uint32_t end) {
  KVS_CHECK_OP(size_t{end}, <=, table.size());
  for (uint32_t i = end; i-- > begin;) pool_.Release(std::exchange(table[i], kNullBlock));
}

BlockKey BlockManager::KeyOf(const HashChain& chain, std::span<const TokenId> tokens,
                             uint32_t block_idx, ContentId parent_content) const {
  const uint32_t block_size = pool_.block_size();
  return {chain[block_idx], chain.ParentOf(block_idx), parent_content,
          tokens.subspan(size_t{block_idx} * block_size, block_size)};
}

void BlockManager::CheckIntegrity(std::span<const std::span<const BlockId>> tables) const {
  pool_.CheckIntegrity(config_.num_hash_bits);
  std::vector<uint32_t> ref_counts(size_t{pool_.num_blocks()} + 1, 0);
  for (const auto table : tables) {
    for (const BlockId block : table) {
      KVS_CHECK_OP(block.value, <=, pool_.num_blocks());
      ++ref_counts[block.value];
    }
  }
  for (uint32_t id = 1; id <= pool_.num_blocks(); ++id) {
    KVS_CHECK_OP(pool_.ref_count(BlockId{id}), ==, ref_counts[id]);
  }
}

}  // namespace kvs
