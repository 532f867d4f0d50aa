// Text: a string that knows which of its bytes the template's author wrote and which came with the
// request. Special tokens are looked for in the author's bytes alone, so a user who writes
// "<|eot_id|>" has written ten characters.
//
// Cutting and joining keep each byte's origin. An operation that makes new characters out of
// several texts (a JSON document, a padded number) gives them the user's origin as soon as one of
// its inputs has it: in doubt, text is text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kvs::jinja {

enum class Origin : uint8_t { kTemplate, kUser };

struct ByteSpan {
  size_t begin;
  size_t end;
  friend bool operator==(const ByteSpan&, const ByteSpan&) = default;
};

// UTF-8. A value: copies are independent.
class Text {
 public:
  Text() = default;
  Text(std::string bytes, Origin origin);

  const std::string& bytes() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  // Sorted, disjoint, none empty.
  const std::vector<ByteSpan>& user_spans() const { return user_spans_; }
  // kUser when any byte is the user's.
  Origin origin() const { return user_spans_.empty() ? Origin::kTemplate : Origin::kUser; }

  // Calls visit(std::string_view, Origin) for each longest stretch of one origin, in order.
  template <class Visit>
  void ForEachRun(Visit visit) const;

  void Append(const Text& more);
  void Append(std::string_view more, Origin origin);
  // REQUIRES: begin <= end <= size(), both at characters' borders.
  Text Slice(size_t begin, size_t end) const;

 private:
  void MarkUser(size_t begin, size_t end);

  std::string bytes_;
  std::vector<ByteSpan> user_spans_;
};

template <class Visit>
void Text::ForEachRun(Visit visit) const {
  const std::string_view all = bytes_;
  size_t done = 0;
  for (const ByteSpan& span : user_spans_) {
    if (done < span.begin) visit(all.substr(done, span.begin - done), Origin::kTemplate);
    visit(all.substr(span.begin, span.end - span.begin), Origin::kUser);
    done = span.end;
  }
  if (done < all.size()) visit(all.substr(done), Origin::kTemplate);
}

}  // namespace kvs::jinja
