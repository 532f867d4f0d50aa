#include "tokenize/added_tokens.h"

#include <algorithm>

#include "tokenize/unicode.h"
#include "tokenize/utf8.h"

namespace kvs {
namespace {

bool WordTouches(std::string_view text, ByteRange range) {
  return (range.begin > 0 && IsWordCharacter(CodePointBefore(text, range.begin).value)) ||
         (range.end < text.size() && IsWordCharacter(CodePointAt(text, range.end).value));
}

// The first byte of the white space that ends at `end`, looking back to `limit`.
size_t WhiteSpaceBefore(std::string_view text, size_t limit, size_t end) {
  while (end > limit) {
    const CodePoint c = CodePointBefore(text, end);
    if (!IsWhiteSpace(c.value)) break;
    end -= c.num_bytes;
  }
  return end;
}

size_t WhiteSpaceAfter(std::string_view text, size_t begin) {
  while (begin < text.size()) {
    const CodePoint c = CodePointAt(text, begin);
    if (!IsWhiteSpace(c.value)) break;
    begin += c.num_bytes;
  }
  return begin;
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)), nodes_(1) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    uint32_t node = 0;
    for (const char c : tokens_[i].content) {
      const auto byte = static_cast<unsigned char>(c);
      uint32_t child = ChildOf(node, byte);
      if (child == 0) {
        child = static_cast<uint32_t>(nodes_.size());
        auto& children = nodes_[node].children;
        children.insert(
            std::upper_bound(children.begin(), children.end(), std::make_pair(byte, UINT32_MAX)),
            {byte, child});
        nodes_.emplace_back();
      }
      node = child;
    }
    nodes_[node].token = static_cast<int32_t>(i);
  }
  for (const auto& [byte, child] : nodes_[0].children) root_child_[byte] = child;
}

uint32_t AddedTokens::ChildOf(uint32_t node, unsigned char byte) const {
  const auto& children = nodes_[node].children;
  const auto found = std::lower_bound(children.begin(), children.end(), std::make_pair(byte, 0u));
  return found != children.end() && found->first == byte ? found->second : 0;
}

int32_t AddedTokens::LongestAt(std::string_view text, size_t offset) const {
  int32_t longest = -1;
  uint32_t node = root_child_[static_cast<unsigned char>(text[offset])];
  while (node != 0) {
    if (nodes_[node].token >= 0) longest = nodes_[node].token;
    if (++offset == text.size()) break;
    node = ChildOf(node, static_cast<unsigned char>(text[offset]));
  }
  return longest;
}

void AddedTokens::Split(std::string_view text, bool parse_special, std::vector<Segment>& out,
                        std::span<const ByteRange> literal) const {
  size_t done = 0;  // segments cover [0, done)
  for (size_t i = 0; i < text.size();) {
    const int32_t found = LongestAt(text, i);
    if (found < 0) {
      ++i;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<size_t>(found)];
    ByteRange range{i, i + token.content.size()};
    while (!literal.empty() && literal.front().end <= range.begin) literal = literal.subspan(1);
    if (token.special && !literal.empty() && literal.front().begin < range.end) {
      ++i;  // a token of the template may begin behind the user's text
      continue;
    }
    i = range.end;  // also when it is refused: a refused token is not searched for another one
    if (token.special && !parse_special) continue;
    if (token.single_word && WordTouches(text, range)) continue;
    if (range.begin < done) continue;  // an rstrip has taken its beginning
    if (token.lstrip) range.begin = WhiteSpaceBefore(text, done, range.begin);
    if (token.rstrip) range.end = WhiteSpaceAfter(text, range.end);
    if (done < range.begin) out.push_back({{done, range.begin}, std::nullopt});
    out.push_back({range, token.id});
    done = range.end;
  }
  if (done < text.size()) out.push_back({{done, text.size()}, std::nullopt});
}

}  // namespace kvs
