#include "blocks/block_hash.h"

#include <gtest/gtest.h>

#include <vector>

namespace kvs {
namespace {

std::vector<TokenId> NumberedTokens(uint32_t count, uint32_t first = 0) {
  std::vector<TokenId> tokens;
  for (uint32_t i = 0; i < count; ++i) tokens.push_back(TokenId{first + i});
  return tokens;
}

TEST(BlockHash, RootDependsOnSeedAndScope) {
  EXPECT_EQ(RootHash(1, 0, "tenant"), RootHash(1, 0, "tenant"));
  EXPECT_NE(RootHash(1, 0, "tenant"), RootHash(2, 0, "tenant"));
  EXPECT_NE(RootHash(1, 0, "tenant"), RootHash(1, 0, "other"));
  EXPECT_NE(RootHash(1, 0, "tenant"), RootHash(1, 7, "tenant")) << "other scales, other blocks";
  EXPECT_NE(RootHash(1, 0, ""), RootHash(2, 0, ""));
}

TEST(BlockHash, DependsOnParentAndOnEveryToken) {
  const BlockHash root = RootHash(7, 0, "");
  const auto tokens = NumberedTokens(16);
  const BlockHash hash = HashBlock(root, tokens);
  EXPECT_EQ(hash, HashBlock(root, tokens));
  EXPECT_NE(hash, HashBlock(RootHash(8, 0, ""), tokens));
  for (size_t i = 0; i < tokens.size(); ++i) {
    auto changed = tokens;
    changed[i].value ^= 1;
    EXPECT_NE(hash, HashBlock(root, changed)) << i;
  }
}

TEST(BlockHash, TruncationKeepsTheLowBits) {
  const BlockHash hash{0x1234567890abcdef, 42};
  EXPECT_EQ(TruncateHash(hash, kBlockHashBits), hash);
  EXPECT_EQ(TruncateHash(hash, 8), (BlockHash{0xef, 0}));
}

TEST(HashChain, ExtendsByFullBlocksOnly) {
  const BlockHash root = RootHash(3, 0, "s");
  const auto tokens = NumberedTokens(40);
  HashChain chain(root, 16);
  chain.Extend(std::span(tokens).first(15));
  EXPECT_EQ(chain.size(), 0u);
  chain.Extend(std::span(tokens).first(16));
  EXPECT_EQ(chain.size(), 1u);
  chain.Extend(tokens);
  ASSERT_EQ(chain.size(), 2u);
  EXPECT_EQ(chain.ParentOf(0), root);
  EXPECT_EQ(chain[0], HashBlock(root, std::span(tokens).first(16)));
  EXPECT_EQ(chain.ParentOf(1), chain[0]);
  EXPECT_EQ(chain[1], HashBlock(chain[0], std::span(tokens).subspan(16, 16)));
}

TEST(HashChain, StepwiseEqualsAtOnce) {
  const auto tokens = NumberedTokens(200, 5);
  HashChain stepwise(RootHash(3, 0, ""), 4);
  HashChain at_once(RootHash(3, 0, ""), 4);
  for (size_t n = 0; n <= tokens.size(); ++n) stepwise.Extend(std::span(tokens).first(n));
  at_once.Extend(tokens);
  ASSERT_EQ(stepwise.size(), at_once.size());
  for (uint32_t i = 0; i < at_once.size(); ++i) EXPECT_EQ(stepwise[i], at_once[i]);
}

TEST(HashChainDeathTest, TokensMayNotShrink) {
  const auto tokens = NumberedTokens(8);
  HashChain chain(RootHash(1, 0, ""), 4);
  chain.Extend(tokens);
  EXPECT_DEATH(chain.Extend(std::span(tokens).first(4)), "check failed");
}

}  // namespace
}  // namespace kvs
