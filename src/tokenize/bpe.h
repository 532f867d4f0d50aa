// Byte-pair encoding of one piece: its units (bytes, or characters) are joined pairwise, always the
// pair whose merge was learned first and of those the leftmost, until no pair can be joined.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kvserve/ids.h"
#include "tokenize/piece_cache.h"
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
    PieceCache known;            // of one Bpe alone
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

  void AddByteTokens();
  void NoteJoins(const std::vector<BpeMerge>& merges);
  TokenId TokenOfCharacter(std::string_view character) const;
  // A part is what lies between two boundaries that nothing joins across: a whole piece of a
  // byte-level vocabulary, or the characters up to PartEnd.
  size_t PartEnd(std::string_view piece) const;
  void EncodePart(std::string_view part, Scratch& scratch, std::vector<TokenId>& out) const;
  void SplitIntoBytes(std::string_view piece, std::vector<Symbol>& symbols) const;
  void SplitIntoCharacters(std::string_view piece, std::vector<Symbol>& symbols) const;
  // Joins what is in scratch.symbols and adds the result to `out`.
  void Join(Scratch& scratch, std::vector<TokenId>& out) const;
  // Two ways to the same result: by looking at all pairs before each merge, for pieces that are
  // as short as words are, and with a heap.
  void JoinFew(const std::vector<Symbol>& symbols, std::vector<TokenId>& out) const;
  void JoinMany(Scratch& scratch, std::vector<TokenId>& out) const;

  bool byte_level_;
  bool ignore_merges_;
  bool fuse_unknown_;
  TokenId unknown_ = kNoToken;
  std::vector<TokenId> token_of_byte_;  // [256]; empty: characters without a token are unknown

  std::array<TokenId, 128> token_of_ascii_;
  // [class of a character][class of the next]: whether any merge joins a token that ends like the
  // first with one that begins like the second. Where none does, what is to the left of the
  // boundary and what is to the right are encoded on their own: in SentencePiece's vocabularies
  // that is in front of every word, and a whole text is one piece.
  static constexpr size_t kNumClasses = 130;
  std::array<std::array<bool, kNumClasses>, kNumClasses> joins_{};

  std::vector<std::string> texts_;    // by id: the bytes a token is made of; empty: none
  std::vector<uint32_t> text_slots_;  // ids by hash of the text; UINT32_MAX: empty
  std::vector<Merge> merge_slots_;    // rank UINT32_MAX: empty
};

}  // namespace kvs
