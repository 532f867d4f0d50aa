// AddedTokens: finds the added tokens ("<|eot_id|>") that a text spells.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenize/regex.h"
#include "tokenize/tokenizer_spec.h"

namespace kvs {

// A stretch of a text: an added token, or text between them.
struct Segment {
  ByteRange range;
  std::optional<TokenId> token;
};

// Immutable; thread-safe.
class AddedTokens {
 public:
  explicit AddedTokens(std::vector<AddedToken> tokens);

  bool empty() const { return tokens_.empty(); }

  // Adds the segments of `text` to `out`: none empty, together all of it. The leftmost token wins,
  // of those the longest; its lstrip and rstrip take white space along. Without `parse_special`
  // special tokens are text, and with it those that touch one of the `literal` ranges (sorted,
  // disjoint). One pass: at most the longest token's length is looked at again.
  void Split(std::string_view text, bool parse_special, std::vector<Segment>& out,
             std::span<const ByteRange> literal = {}) const;

 private:
  struct Node {
    std::vector<std::pair<unsigned char, uint32_t>> children;  // by byte, ascending
    int32_t token = -1;                                        // index in tokens_
  };

  uint32_t ChildOf(uint32_t node, unsigned char byte) const;  // 0: none
  // Index of the longest token that begins at `offset`; -1: none.
  int32_t LongestAt(std::string_view text, size_t offset) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;  // a trie; 0 is the root
  uint32_t root_child_[256] = {};
};

}  // namespace kvs
