#include "template/strings.h"

#include <algorithm>

#include "template/characters.h"
#include "template/error.h"
#include "tokenize/utf8.h"

namespace kvs::jinja {
namespace {

constexpr size_t kMaxBytes = size_t{64} << 20;

// Byte spans of the words between white space; the last one, after `max_splits` cuts, keeps its own
// white space but for what leads it.
std::vector<ByteSpan> Words(std::string_view text, int64_t max_splits) {
  std::vector<ByteSpan> words;
  size_t at = 0;
  while (true) {
    at += Stripped(text.substr(at), nullptr, true, false).begin;
    if (at == text.size()) return words;
    if (max_splits >= 0 && static_cast<int64_t>(words.size()) == max_splits) {
      words.push_back({at, text.size()});
      return words;
    }
    size_t end = at;
    while (end < text.size()) {
      const CodePoint c = CodePointAt(text, end);
      if (IsSpace(c.value)) break;
      end += c.num_bytes;
    }
    words.push_back({at, end});
    at = end;
  }
}

std::vector<ByteSpan> WordsFromRight(std::string_view text, int64_t max_splits) {
  std::vector<ByteSpan> words;
  size_t end = text.size();
  while (true) {
    end = Stripped(text.substr(0, end), nullptr, false, true).end;
    if (end == 0) break;
    if (max_splits >= 0 && static_cast<int64_t>(words.size()) == max_splits) {
      words.push_back({0, end});
      break;
    }
    size_t begin = end;
    while (begin > 0) {
      const CodePoint c = CodePointBefore(text, begin);
      if (IsSpace(c.value)) break;
      begin -= c.num_bytes;
    }
    words.push_back({begin, end});
    end = begin;
  }
  std::reverse(words.begin(), words.end());
  return words;
}

std::vector<Text> Slices(const Text& text, const std::vector<ByteSpan>& spans) {
  std::vector<Text> slices;
  slices.reserve(spans.size());
  for (const ByteSpan& span : spans) slices.push_back(text.Slice(span.begin, span.end));
  return slices;
}

}  // namespace

Text StripText(const Text& text, const std::string* drop, bool left, bool right) {
  const ByteSpan span = Stripped(text.bytes(), drop, left, right);
  return text.Slice(span.begin, span.end);
}

Text ReplaceText(const Text& text, const std::string& from, const Text& to, int64_t count) {
  if (count < 0) count = INT64_MAX;
  const std::string& bytes = text.bytes();
  Text out;
  size_t done = 0;
  size_t search = 0;
  while (count-- > 0) {
    const size_t found = search <= bytes.size() ? bytes.find(from, search) : std::string::npos;
    if (found == std::string::npos) break;
    out.Append(text.Slice(done, found));
    out.Append(to);
    if (out.size() > kMaxBytes) Fail("replace() makes over {} bytes", kMaxBytes);
    done = found + from.size();
    // Nothing is found between any two characters, and at both ends.
    search = from.empty() && done < bytes.size() ? done + CodePointAt(bytes, done).num_bytes
             : from.empty()                      ? bytes.size() + 1
                                                 : done;
  }
  out.Append(text.Slice(done, bytes.size()));
  return out;
}

std::vector<Text> SplitText(const Text& text, const std::string* separator, int64_t max_splits) {
  if (separator == nullptr) return Slices(text, Words(text.bytes(), max_splits));
  if (separator->empty()) Fail("empty separator");
  std::vector<ByteSpan> spans;
  size_t begin = 0;
  while (max_splits < 0 || static_cast<int64_t>(spans.size()) < max_splits) {
    const size_t found = text.bytes().find(*separator, begin);
    if (found == std::string::npos) break;
    spans.push_back({begin, found});
    begin = found + separator->size();
  }
  spans.push_back({begin, text.size()});
  return Slices(text, spans);
}

std::vector<Text> SplitTextFromRight(const Text& text, const std::string* separator,
                                     int64_t max_splits) {
  if (separator == nullptr) return Slices(text, WordsFromRight(text.bytes(), max_splits));
  if (separator->empty()) Fail("empty separator");
  std::vector<ByteSpan> spans;
  size_t end = text.size();
  while (max_splits < 0 || static_cast<int64_t>(spans.size()) < max_splits) {
    if (end < separator->size()) break;
    const size_t found = text.bytes().rfind(*separator, end - separator->size());
    if (found == std::string::npos) break;
    spans.push_back({found + separator->size(), end});
    end = found;
  }
  spans.push_back({0, end});
  std::reverse(spans.begin(), spans.end());
  return Slices(text, spans);
}

std::vector<Text> SplitLines(const Text& text, bool keep_ends) {
  const std::string& bytes = text.bytes();
  std::vector<ByteSpan> lines;
  size_t begin = 0;
  for (size_t i = 0; i < bytes.size();) {
    const CodePoint c = CodePointAt(bytes, i);
    size_t end = i + c.num_bytes;
    if (!IsLineBreak(c.value)) {
      i = end;
      continue;
    }
    if (c.value == '\r' && end < bytes.size() && bytes[end] == '\n') ++end;
    lines.push_back({begin, keep_ends ? end : i});
    begin = i = end;
  }
  if (begin < bytes.size()) lines.push_back({begin, bytes.size()});
  return Slices(text, lines);
}

Text Padded(const Text& text, size_t num_left, size_t num_right, const Text& fill) {
  if ((num_left + num_right) * std::max<size_t>(fill.size(), 1) > kMaxBytes) {
    Fail("padding makes over {} bytes", kMaxBytes);
  }
  Text out;
  for (size_t i = 0; i < num_left; ++i) out.Append(fill);
  out.Append(text);
  for (size_t i = 0; i < num_right; ++i) out.Append(fill);
  return out;
}

}  // namespace kvs::jinja
