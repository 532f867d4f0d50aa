#include "tokenize/bpe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tokenize/byte_level.h"
#include "tokenize/utf8.h"

namespace kvs {
namespace {

using Ids = std::vector<uint32_t>;

Ids Encode(const Bpe& bpe, std::string_view piece) {
  Bpe::Scratch scratch;
  std::vector<TokenId> tokens;
  bpe.Encode(piece, scratch, tokens);
  Ids ids;
  for (const TokenId token : tokens) ids.push_back(token.value);
  return ids;
}

// A text vocabulary from its tokens in order, and merges by spelling.
BpeModel TextModel(const std::vector<std::string>& vocab,
                   const std::vector<std::pair<std::string, std::string>>& merges) {
  BpeModel model;
  std::map<std::string, TokenId> ids;
  for (uint32_t id = 0; id < vocab.size(); ++id) {
    model.vocab.push_back(vocab[id]);
    ids[vocab[id]] = TokenId{id};
  }
  for (const auto& [left, right] : merges) {
    model.merges.push_back({ids.at(left), ids.at(right), ids.at(left + right)});
  }
  return model;
}

TEST(Bpe, JoinsTheEarliestMergeFirst) {
  const Bpe bpe(
      TextModel({"a", "b", "c", "ab", "bc", "abc"}, {{"b", "c"}, {"a", "b"}, {"a", "bc"}}));
  EXPECT_EQ(Encode(bpe, "abc"), (Ids{5}));
  EXPECT_EQ(Encode(bpe, "ab"), (Ids{3}));
  EXPECT_EQ(Encode(bpe, "abcab"), (Ids{5, 3}));
  EXPECT_EQ(Encode(bpe, ""), Ids{});
}

TEST(Bpe, OfEqualMergesTheLeftmost) {
  const Bpe bpe(TextModel({"a", "aa"}, {{"a", "a"}}));
  EXPECT_EQ(Encode(bpe, "aaaaa"), (Ids{1, 1, 0}));
}

TEST(Bpe, IgnoreMergesTakesWholePieces) {
  BpeModel model = TextModel({"a", "b", "ab"}, {});
  EXPECT_EQ(Encode(Bpe(model), "ab"), (Ids{0, 1}));
  model.ignore_merges = true;
  EXPECT_EQ(Encode(Bpe(model), "ab"), (Ids{2}));
  EXPECT_EQ(Encode(Bpe(model), "aba"), (Ids{0, 1, 0}));
}

TEST(Bpe, UnknownCharacters) {
  BpeModel model = TextModel({"<unk>", "a"}, {});
  EXPECT_EQ(Encode(Bpe(model), "xay"), (Ids{1}));  // no unknown token: nothing to put there
  model.unknown = TokenId{0};
  EXPECT_EQ(Encode(Bpe(model), "xya\u4e2d"), (Ids{0, 0, 1, 0}));
  model.fuse_unknown = true;
  EXPECT_EQ(Encode(Bpe(model), "xya\u4e2dz"), (Ids{0, 1, 0}));
}

TEST(Bpe, FallsBackToBytes) {
  std::vector<std::string> vocab = {"<unk>", "a"};
  for (const char* digits = "0123456789ABCDEF"; const char high : std::string(digits)) {
    for (const char low : std::string(digits)) {
      vocab.push_back(std::string("<0x") + high + low + ">");
    }
  }
  BpeModel model = TextModel(vocab, {});
  model.byte_fallback = true;
  model.unknown = TokenId{0};
  EXPECT_EQ(Encode(Bpe(model), "a\u00e9"), (Ids{1, 2 + 0xC3, 2 + 0xA9}));
  model.vocab.pop_back();  // without all of them there is no fallback
  EXPECT_EQ(Encode(Bpe(model), "a\u00e9"), (Ids{1, 0}));
}

// Joins one pair at a time by looking at all of them.
Ids NaiveEncode(Ids symbols, const std::vector<BpeMerge>& merges) {
  while (true) {
    size_t best_rank = merges.size();
    size_t best_at = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      for (size_t rank = 0; rank < best_rank; ++rank) {
        if (merges[rank].left.value == symbols[i] && merges[rank].right.value == symbols[i + 1]) {
          best_rank = rank;
          best_at = i;
        }
      }
    }
    if (best_rank == merges.size()) return symbols;
    symbols[best_at] = merges[best_rank].merged.value;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best_at) + 1);
  }
}

TEST(Bpe, EqualsTheNaiveAlgorithm) {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    std::vector<std::string> vocab = {"a", "b", "c"};
    std::vector<std::pair<std::string, std::string>> pairs;
    std::map<std::string, bool> known = {{"a", true}, {"b", true}, {"c", true}};
    for (int i = 0; i < 12; ++i) {
      const std::string left = vocab[random() % vocab.size()];
      const std::string right = vocab[random() % vocab.size()];
      if (!known.emplace(left + right, true).second) continue;
      vocab.push_back(left + right);
      pairs.emplace_back(left, right);
    }
    std::shuffle(pairs.begin(), pairs.end(), random);
    const BpeModel model = TextModel(vocab, pairs);
    const Bpe bpe(model);
    for (int text = 0; text < 20; ++text) {
      std::string piece;
      Ids symbols;
      for (size_t i = random() % 40; i > 0; --i) {
        symbols.push_back(random() % 3);
        piece += "abc"[symbols.back()];
      }
      ASSERT_EQ(Encode(bpe, piece), NaiveEncode(symbols, model.merges)) << piece;
    }
  }
}

TEST(Bpe, ByteLevelUnitsAreBytes) {
  BpeModel model;
  model.byte_level = true;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    std::string text;
    AppendUtf8(ByteLevelChar(static_cast<uint8_t>(byte)), text);
    model.vocab.push_back(text);
  }
  model.vocab.push_back("\u0120a");
  model.merges.push_back({TokenId{' '}, TokenId{'a'}, TokenId{256}});
  EXPECT_EQ(Encode(Bpe(model), " a\u00e9"), (Ids{256, 0xC3, 0xA9}));
}

}  // namespace
}  // namespace kvs
