#include "template/text.h"

#include <algorithm>
#include <utility>

#include "kvserve/check.h"

namespace kvs::jinja {

Text::Text(std::string bytes, Origin origin) : bytes_(std::move(bytes)) {
  if (origin == Origin::kUser) MarkUser(0, bytes_.size());
}

void Text::MarkUser(size_t begin, size_t end) {
  if (begin == end) return;
  if (!user_spans_.empty() && user_spans_.back().end == begin) {
    user_spans_.back().end = end;
  } else {
    user_spans_.push_back({begin, end});
  }
}

void Text::Append(const Text& more) {
  if (&more == this) return Append(Text(more));
  const size_t offset = bytes_.size();
  bytes_ += more.bytes_;
  for (const ByteSpan& span : more.user_spans_) MarkUser(offset + span.begin, offset + span.end);
}

void Text::Append(std::string_view more, Origin origin) {
  const size_t offset = bytes_.size();
  bytes_ += more;
  if (origin == Origin::kUser) MarkUser(offset, bytes_.size());
}

Text Text::Slice(size_t begin, size_t end) const {
  KVS_CHECK(begin <= end && end <= bytes_.size());
  Text slice;
  slice.bytes_.assign(bytes_, begin, end - begin);
  const auto ends_before = [](const ByteSpan& span, size_t offset) { return span.end <= offset; };
  auto span = std::lower_bound(user_spans_.begin(), user_spans_.end(), begin, ends_before);
  for (; span != user_spans_.end() && span->begin < end; ++span) {
    slice.MarkUser(std::max(span->begin, begin) - begin, std::min(span->end, end) - begin);
  }
  return slice;
}

}  // namespace kvs::jinja
