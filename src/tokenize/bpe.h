// Byte-pair encoding of one piece: its units (bytes, or characters) are joined pairwise, always the
// pair whose merge was learned first and of those the leftmost, until no pair can be joined.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kvserve/ids.h"
#include "tokenize/tokenizer_spec.h"

namespace kvs {

// Immutable; thread-safe.
class Bpe {
 public:
  struct Symbol {
    uint32_t token;  // kGone once it was joined to its left neighbor
    int32_t previous;
    int32_t next;  // -1 at the ends
  };
  // Memory of encodings, to be reused from piece to piece by one thread.
  struct Scratch {
    std::vector<Symbol> symbols;
    std::vector<uint64_t> heap;  // rank << 32 | index of the left symbol; the smallest on top
  };

  // `model` is checked: merges refer to tokens, a byte-level vocabulary has every byte of UTF-8.
  explicit Bpe(const BpeModel& model);

  // Adds the tokens of `piece` to `out`, in O(n log n) time. REQUIRES: `piece` is UTF-8.
  void Encode(std::string_view piece, Scratch& scratch, std::vector<TokenId>& out) const;

 private:
  // Open addressing: a lookup touches one cache line, mostly.
  struct Merge {
    uint64_t pair;  // left << 32 | right
    uint32_t rank;
    uint32_t merged;
  };
  void AddMerges(const std::vector<BpeMerge>& merges);
  void AddTexts(const BpeModel& model);
  const Merge* FindMerge(uint32_t left, uint32_t right) const;
  // kNoToken when no token is spelled so.
  TokenId FindText(std::string_view text) const;

  void SplitIntoBytes(std::string_view piece, std::vector<Symbol>& symbols) const;
  void SplitIntoCharacters(std::string_view piece, std::vector<Symbol>& symbols) const;
  void JoinAll(Scratch& scratch) const;

  bool byte_level_;
  bool ignore_merges_;
  bool fuse_unknown_;
  TokenId unknown_ = kNoToken;
  std::vector<TokenId> token_of_byte_;  // [256]; empty: characters without a token are unknown

  std::vector<std::string> texts_;    // by id: the bytes a token is made of; empty: none
  std::vector<uint32_t> text_slots_;  // ids by hash of the text; UINT32_MAX: empty
  std::vector<Merge> merge_slots_;    // rank UINT32_MAX: empty
};

}  // namespace kvs
