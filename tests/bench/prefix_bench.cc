// Time to find a long prefix in the prefix cache: hashing the tokens and looking up every block
// with its tokens compared, in a pool of a million tokens that is out of the processor's caches and
// whose free blocks are in no order.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

#include "blocks/block_manager.h"
#include "kvserve/check.h"

namespace kvs {
namespace {

constexpr uint32_t kBlockSize = 16;
constexpr uint32_t kNumBlocks = 65536;
constexpr uint32_t kNumTokens = 50'000;
constexpr size_t kEvictBytes = size_t{64} << 20;  // beyond the last-level cache

using Clock = std::chrono::steady_clock;

std::vector<TokenId> RandomTokens(uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<TokenId> tokens(kNumTokens);
  for (TokenId& token : tokens) token = {static_cast<uint32_t>(random() % 128256)};
  return tokens;
}

void Cache(BlockManager& blocks, const std::vector<TokenId>& tokens) {
  HashChain chain = blocks.MakeChain("");
  chain.Extend(tokens);
  std::vector<BlockId> table;
  KVS_CHECK(blocks.TryGrow(table, kNumTokens));
  blocks.CacheFull(chain, tokens, table, 0, chain.size());
  blocks.Release(table);
}

// Leaves the free blocks in the order of a pool long in use: a prompt's blocks lie anywhere.
void ShuffleFreeBlocks(BlockManager& blocks) {
  std::vector<BlockId> table;
  KVS_CHECK(blocks.TryGrow(table, kNumBlocks * kBlockSize));
  std::shuffle(table.begin(), table.end(), std::mt19937(7));
  blocks.Release(table);
}

double MatchMilliseconds(BlockManager& blocks, const std::vector<TokenId>& tokens) {
  const auto start = Clock::now();
  HashChain chain = blocks.MakeChain("");
  chain.Reserve(kNumTokens / kBlockSize);
  chain.Extend(tokens);
  const PrefixMatch match = blocks.MatchPrefix(chain, tokens);
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  KVS_CHECK_OP(match.blocks.size(), ==, size_t{kNumTokens / kBlockSize});
  return seconds * 1e3;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

int Main() {
  BlockManager blocks({.num_blocks = kNumBlocks, .block_size = kBlockSize, .hash_seed = 1});
  ShuffleFreeBlocks(blocks);
  std::vector<std::vector<TokenId>> prompts;
  for (uint32_t i = 0; i < kNumBlocks * kBlockSize / kNumTokens; ++i) {
    prompts.push_back(RandomTokens(i));
    Cache(blocks, prompts.back());
  }
  std::vector<char> evict(kEvictBytes);
  std::vector<double> warm, cold;
  for (size_t i = 0; i < 60; ++i) {
    const auto& tokens = prompts[i % prompts.size()];
    std::fill(evict.begin(), evict.end(), static_cast<char>(i));
    cold.push_back(MatchMilliseconds(blocks, tokens));
    warm.push_back(MatchMilliseconds(blocks, tokens));
  }
  std::printf("match of a %u token prefix, block size %u: %.3f ms cold caches, %.3f ms warm\n",
              kNumTokens, kBlockSize, Median(cold), Median(warm));
  return 0;
}

}  // namespace
}  // namespace kvs

int main() { return kvs::Main(); }
