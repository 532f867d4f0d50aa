#include "blocks/block_pool.h"

#include <algorithm>
#include <cstring>

#include "kvserve/check.h"

namespace kvs {

BlockPool::BlockPool(uint32_t num_blocks, uint32_t block_size)
    : num_blocks_(num_blocks),
      block_size_(block_size),
      blocks_(size_t{num_blocks} + 1),
      tokens_((size_t{num_blocks} + 1) * block_size),
      index_(num_blocks) {
  KVS_CHECK_OP(num_blocks, >, 0u);
  KVS_CHECK_OP(block_size, >, 0u);
  KVS_CHECK_OP(block_size, <=, kMaxBlockSize);
  for (uint32_t block = 1; block <= num_blocks; ++block) LinkAfter(blocks_[0].prev, block);
  num_free_ = num_blocks;
}

std::optional<BlockId> BlockPool::Acquire() {
  if (num_free_ == 0) return std::nullopt;
  const uint32_t id = blocks_[0].next;
  if (blocks_[id].is_cached) {
    Forget(id);
    ++num_evicted_;
  }
  Unlink(id);
  --num_free_;
  blocks_[id].ref_count = 1;
  return BlockId{id};
}

void BlockPool::AddRef(BlockId id) {
  KVS_CHECK(id != kNullBlock);
  KVS_CHECK_OP(id.value, <=, num_blocks_);
  Block& block = blocks_[id.value];
  if (block.ref_count == 0) {
    KVS_CHECK(block.is_cached);
    Unlink(id.value);
    --num_free_;
    --num_cached_free_;
  }
  ++block.ref_count;
}

void BlockPool::Release(BlockId id) {
  KVS_CHECK(id != kNullBlock);
  KVS_CHECK_OP(id.value, <=, num_blocks_);
  Block& block = blocks_[id.value];
  KVS_CHECK_OP(block.ref_count, >, 0u);
  if (--block.ref_count > 0) return;
  ++num_free_;
  if (block.is_cached) {
    LinkAfter(blocks_[0].prev, id.value);
    ++num_cached_free_;
  } else {
    block.content = kNoContent;
    LinkAfter(0, id.value);
  }
}

BlockId BlockPool::Find(const BlockKey& key) {
  const BlockId found = index_.Find(key.hash);
  if (found == kNullBlock || Holds(found.value, key)) return found;
  CountCollision(found.value, key);
  return kNullBlock;
}

void BlockPool::PrefetchBlock(const BlockHash& hash) const {
  constexpr size_t kTokensPerLine = 64 / sizeof(TokenId);
  const uint32_t id = index_.Find(hash).value;
  __builtin_prefetch(&blocks_[id]);
  const std::span<const TokenId> tokens = TokensOf(id);
  for (size_t i = 0; i < tokens.size(); i += kTokensPerLine) __builtin_prefetch(&tokens[i]);
}

void BlockPool::Cache(BlockId id, const BlockKey& key) {
  KVS_CHECK_OP(key.tokens.size(), ==, size_t{block_size_});
  KVS_CHECK(key.parent_content != kNoContent);
  Block& block = blocks_[id.value];
  KVS_CHECK_OP(block.ref_count, ==, 1u);
  KVS_CHECK(block.content == kNoContent);
  const BlockId found = index_.Find(key.hash);
  if (found != kNullBlock) {
    if (Holds(found.value, key)) {
      block.content = blocks_[found.value].content;
      return;
    }
    CountCollision(found.value, key);
    Forget(found.value);
  }
  index_.Insert(key.hash, id);
  block.hash = key.hash;
  block.parent_hash = key.parent_hash;
  block.parent_content = key.parent_content;
  block.content = ContentId{++last_content_};
  block.is_cached = true;
  std::copy(key.tokens.begin(), key.tokens.end(), TokensOf(id.value).begin());
}

bool BlockPool::Reset() {
  if (num_held() > 0) return false;
  for (Block& block : blocks_) {
    block.is_cached = false;
    block.content = kNoContent;
  }
  index_.Clear();
  num_cached_free_ = 0;
  return true;
}

std::span<TokenId> BlockPool::TokensOf(uint32_t block) {
  return std::span(tokens_).subspan(size_t{block} * block_size_, block_size_);
}

std::span<const TokenId> BlockPool::TokensOf(uint32_t block) const {
  return std::span(tokens_).subspan(size_t{block} * block_size_, block_size_);
}

bool BlockPool::SpellsSame(const Block& block, uint32_t id, const BlockKey& key) const {
  const auto stored = TokensOf(id);
  // As bytes: id by id a whole match takes a tenth longer.
  return block.parent_hash == key.parent_hash && stored.size() == key.tokens.size() &&
         std::memcmp(stored.data(), key.tokens.data(), stored.size_bytes()) == 0;
}

// The parent is compared by content: where two prefixes collide, their hash is the same too.
bool BlockPool::Holds(uint32_t id, const BlockKey& key) const {
  const Block& block = blocks_[id];
  return block.parent_content == key.parent_content && SpellsSame(block, id, key);
}

// The same tokens after the same parent hash are no collision: the parent was evicted while its
// child was held, and has been computed anew.
void BlockPool::CountCollision(uint32_t id, const BlockKey& key) {
  if (!SpellsSame(blocks_[id], id, key)) ++num_collisions_;
}

void BlockPool::Forget(uint32_t id) {
  Block& block = blocks_[id];
  index_.Erase(block.hash);
  block.is_cached = false;
  if (block.ref_count > 0) return;
  --num_cached_free_;
  block.content = kNoContent;
  Unlink(id);
  LinkAfter(0, id);
}

void BlockPool::LinkAfter(uint32_t position, uint32_t block) {
  const uint32_t next = blocks_[position].next;
  blocks_[block].prev = position;
  blocks_[block].next = next;
  blocks_[position].next = block;
  blocks_[next].prev = block;
}

void BlockPool::Unlink(uint32_t block) {
  blocks_[blocks_[block].prev].next = blocks_[block].next;
  blocks_[blocks_[block].next].prev = blocks_[block].prev;
}

void BlockPool::CheckIntegrity(uint32_t num_hash_bits) const {
  KVS_CHECK_OP(blocks_[0].ref_count, ==, 0u);
  KVS_CHECK(!blocks_[0].is_cached);
  CheckFreeList();
  uint32_t num_free = 0;
  uint32_t num_cached = 0;
  uint32_t num_cached_free = 0;
  for (uint32_t id = 1; id <= num_blocks_; ++id) {
    const Block& block = blocks_[id];
    num_free += block.ref_count == 0 ? 1 : 0;
    if (block.is_cached) {
      ++num_cached;
      num_cached_free += block.ref_count == 0 ? 1 : 0;
      CheckCachedBlock(id, num_hash_bits);
    } else if (block.ref_count == 0) {
      KVS_CHECK(block.content == kNoContent);
    }
  }
  KVS_CHECK_OP(num_free, ==, num_free_);
  KVS_CHECK_OP(num_cached, ==, index_.size());
  KVS_CHECK_OP(num_cached_free, ==, num_cached_free_);
}

void BlockPool::CheckFreeList() const {
  uint32_t length = 0;
  uint32_t prev = 0;
  bool seen_cached = false;
  for (uint32_t id = blocks_[0].next; id != 0; id = blocks_[id].next) {
    KVS_CHECK_OP(blocks_[id].prev, ==, prev);
    KVS_CHECK_OP(blocks_[id].ref_count, ==, 0u);
    KVS_CHECK(blocks_[id].is_cached || !seen_cached);  // what cannot be found is reused first
    seen_cached = blocks_[id].is_cached;
    prev = id;
    KVS_CHECK_OP(++length, <=, num_free_);
  }
  KVS_CHECK_OP(blocks_[0].prev, ==, prev);
  KVS_CHECK_OP(length, ==, num_free_);
}

void BlockPool::CheckCachedBlock(uint32_t id, uint32_t num_hash_bits) const {
  const Block& block = blocks_[id];
  KVS_CHECK(index_.Find(block.hash) == BlockId{id});
  KVS_CHECK(TruncateHash(HashBlock(block.parent_hash, TokensOf(id)), num_hash_bits) == block.hash);
  KVS_CHECK_OP(block.content.value, >, kRootContent.value);
  KVS_CHECK_OP(block.content.value, <=, last_content_);
  KVS_CHECK_OP(block.parent_content.value, >=, kRootContent.value);
  KVS_CHECK_OP(block.parent_content.value, <, block.content.value);
}

}  // namespace kvs
