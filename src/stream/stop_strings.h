// StopStrings: finds the first of several strings in a text that arrives in pieces, and holds back
// exactly the longest end of the text that could still become one of them.
//
// An Aho-Corasick automaton over the bytes: time linear in the text, whatever the strings. Not
// thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kvs {

class StopStrings {
 public:
  struct Match {
    size_t index;    // in the strings given; the first of equal strings
    uint64_t begin;  // byte offsets in the whole text, [begin, end)
    uint64_t end;
  };

  // REQUIRES: no string is empty. Memory is bounded by (total length + 1) * (distinct bytes + 1).
  explicit StopStrings(std::span<const std::string> strings);

  // Feeds `text`. Adds to `out` what cannot be part of a stop string any more. The match that ends
  // first wins, of those the longest; its string and what follows are not added. No call may
  // follow a match. With `may_match` false a string that ends in `text` does not count.
  std::optional<Match> Append(std::string_view text, bool may_match, std::string& out);

  // Ends the text: adds what was held back.
  void Flush(std::string& out);

  bool empty() const { return lengths_.empty(); }

 private:
  struct Node {
    uint32_t depth = 0;
    uint32_t held = 0;    // length of the longest suffix that is a proper prefix of a string
    uint32_t string = 0;  // 1 + index of the longest string that ends here; 0 = none
  };

  uint32_t AddNode(uint32_t depth);
  void Insert(const std::string& string, uint32_t index);
  void LinkFailures();
  uint32_t& Next(uint32_t node, uint32_t byte_class) {
    return next_[size_t{node} * num_classes_ + byte_class];
  }

  std::array<uint16_t, 256> class_of_{};  // 0: a byte that no string has
  uint32_t num_classes_ = 1;
  std::vector<size_t> lengths_;
  std::vector<Node> nodes_;
  std::vector<uint32_t> next_;  // [nodes][num_classes_]

  uint32_t state_ = 0;
  uint64_t num_bytes_ = 0;  // of text fed
  std::string held_;        // the last nodes_[state_].held bytes of the text
};

}  // namespace kvs
