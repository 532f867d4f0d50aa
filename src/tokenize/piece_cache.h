// PieceCache: what short pieces of the same text were encoded to a moment ago. Text repeats its
// words, and finding one again costs a fraction of joining it anew. A direct-mapped table of fixed
// size: an entry gives way to the next piece that falls on it, so hostile text gains nothing but
// misses.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "kvserve/ids.h"

namespace kvs {

// Not thread-safe; one for each encoding, and empty at first.
class PieceCache {
 public:
  // Adds the tokens of `piece` to `out`; false when they are not known.
  bool Find(std::string_view piece, std::vector<TokenId>& out) {
    if (piece.empty() || piece.size() > kPieceBytesMax || entries_.empty()) return false;
    const Key key = KeyOf(piece);
    const Entry& entry = entries_[SlotOf(key)];
    if (entry.key != key) return false;
    out.insert(out.end(), entry.tokens.data(), entry.tokens.data() + entry.num_tokens);
    return true;
  }

  // Does nothing for what does not fit, and until enough was encoded to be worth the table.
  void Put(std::string_view piece, std::span<const TokenId> tokens) {
    if (piece.size() > kPieceBytesMax || piece.empty() || tokens.size() > kTokensMax) return;
    if (entries_.empty()) {
      if (++num_refused_ < kPiecesBefore) return;
      entries_.resize(kNumEntries);
    }
    const Key key = KeyOf(piece);
    Entry& entry = entries_[SlotOf(key)];
    entry.key = key;
    entry.num_tokens = static_cast<uint32_t>(tokens.size());
    std::copy(tokens.begin(), tokens.end(), entry.tokens.begin());
  }

 private:
  static constexpr size_t kPieceBytesMax = 15;
  static constexpr size_t kTokensMax = 7;
  static constexpr size_t kNumEntries = 2048;  // 96 KiB
  static constexpr uint32_t kPiecesBefore = 100;

  // The bytes of the piece, zeros, and its length in the last byte: never all zero.
  using Key = std::array<uint64_t, 2>;
  struct Entry {
    Key key{};
    uint32_t num_tokens = 0;
    std::array<TokenId, kTokensMax> tokens{};
  };

  static Key KeyOf(std::string_view piece) {
    char bytes[16] = {};
    std::memcpy(bytes, piece.data(), piece.size());
    bytes[15] = static_cast<char>(piece.size());
    Key key;
    std::memcpy(key.data(), bytes, sizeof(bytes));
    return key;
  }
  static size_t SlotOf(const Key& key) {
    const uint64_t mixed = (key[0] ^ (key[1] * 0x9E3779B97F4A7C15u)) * 0xD6E8FEB86659FD93u;
    return static_cast<size_t>(mixed >> 32) % kNumEntries;
  }

  std::vector<Entry> entries_;
  uint32_t num_refused_ = 0;
};

}  // namespace kvs
