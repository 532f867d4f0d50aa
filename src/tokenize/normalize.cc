#include "tokenize/normalize.h"

#include <string_view>
#include <variant>

#include "tokenize/unicode.h"

namespace kvs {
namespace {

std::string Apply(const UnicodeNormalizer& normalizer, const std::string& text) {
  return NormalizeUnicode(text, normalizer.form);
}

std::string Apply(const PrependNormalizer& normalizer, const std::string& text) {
  if (text.empty()) return text;
  return normalizer.prefix + text;
}

std::string Apply(const ReplaceNormalizer& normalizer, const std::string& text) {
  std::string out;
  size_t begin = 0;
  while (true) {
    const size_t found = text.find(normalizer.pattern, begin);
    out.append(text, begin, found - begin);  // npos: the rest
    if (found == std::string::npos) return out;
    out += normalizer.content;
    begin = found + normalizer.pattern.size();
  }
}

}  // namespace

std::string Normalize(const std::vector<Normalizer>& normalizers, std::string text) {
  for (const Normalizer& normalizer : normalizers) {
    text = std::visit([&](const auto& n) { return Apply(n, text); }, normalizer);
  }
  return text;
}

}  // namespace kvs
