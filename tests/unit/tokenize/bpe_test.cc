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

// Adds "<0x00>" ... "<0xFF>".
void AddBytes(std::vector<std::string>& vocab) {
  for (const char* digits = "0123456789ABCDEF"; const char high : std::string(digits)) {
    for (const char low : std::string(digits)) {
      vocab.push_back(std::string("<0x") + high + low + ">");
    }
  }
}

TEST(Bpe, FallsBackToBytes) {
  std::vector<std::string> vocab = {"<unk>", "a"};
  AddBytes(vocab);
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

// Boundaries that no merge crosses, short and long parts, parts seen before: all of them are ways
// to the result of the plain algorithm over the whole piece.
TEST(Bpe, PartsAndRepetitionsChangeNothing) {
  std::mt19937 random(2);
  const std::vector<std::string> alphabet = {"\u2581", "a", "b", "\u00e9", "\n"};
  for (int round = 0; round < 200; ++round) {
    std::vector<std::string> vocab = {"\u2581", "a", "b", "\u00e9"};  // "\n" has bytes alone
    const size_t num_characters = vocab.size();
    AddBytes(vocab);
    std::vector<std::string> joinable(vocab.begin(), vocab.begin() + num_characters);
    // In some vocabularies a byte's token takes part in merges.
    if (round % 4 == 0) joinable.emplace_back("<0x0A>");
    std::vector<std::pair<std::string, std::string>> pairs;
    std::map<std::string, bool> known;
    for (size_t i = random() % 12; i > 0; --i) {
      const std::string left = joinable[random() % joinable.size()];
      const std::string right = joinable[random() % joinable.size()];
      if (!known.emplace(left + right, true).second) continue;
      vocab.push_back(left + right);
      joinable.push_back(left + right);
      pairs.emplace_back(left, right);
    }
    std::shuffle(pairs.begin(), pairs.end(), random);
    BpeModel model = TextModel(vocab, pairs);
    model.byte_fallback = true;
    const Bpe bpe(model);
    Bpe::Scratch scratch;
    for (int text = 0; text < 30; ++text) {
      std::string piece;
      Ids symbols;
      for (size_t i = random() % 120; i > 0; --i) {
        const size_t pick = random() % alphabet.size();
        piece += alphabet[pick];
        symbols.push_back(static_cast<uint32_t>(pick < 4 ? pick : num_characters + '\n'));
      }
      std::vector<TokenId> tokens;
      bpe.Encode(piece, scratch, tokens);
      Ids ids;
      for (const TokenId token : tokens) ids.push_back(token.value);
      ASSERT_EQ(ids, NaiveEncode(symbols, model.merges)) << piece;
    }
  }
}

TEST(PieceCache, FindsWhatFitsOnceItIsWarm) {
  PieceCache cache;
  std::vector<TokenId> out;
  const std::vector<TokenId> tokens = {TokenId{7}, TokenId{8}};
  cache.Put("word", tokens);
  EXPECT_FALSE(cache.Find("word", out)) << "a short text does not pay for the table";
  for (int i = 0; i < 200; ++i) cache.Put("word", tokens);
  EXPECT_TRUE(cache.Find("word", out));
  EXPECT_EQ(out, tokens);
  EXPECT_FALSE(cache.Find("words", out));
  EXPECT_FALSE(cache.Find("", out));
  EXPECT_FALSE(cache.Find(std::string_view("word\0", 5), out)) << "zeros count";
  const std::string long_piece(16, 'a');
  cache.Put(long_piece, tokens);
  EXPECT_FALSE(cache.Find(long_piece, out));
  cache.Put("many", std::vector<TokenId>(8));
  EXPECT_FALSE(cache.Find("many", out));
  EXPECT_EQ(out, tokens) << "a miss adds nothing";
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
