#define PCRE2_CODE_UNIT_WIDTH 8
#include "tokenize/regex.h"

#include <fmt/format.h>
#include <pcre2.h>

#include <utility>

#include "kvserve/check.h"
#include "tokenize/utf8.h"

namespace kvs {
namespace {

// Far more than any pattern in use needs (they are linear), and few enough to end in a second.
constexpr uint32_t kMatchLimit = 20'000'000;
constexpr size_t kJitStackBytesMin = 32u << 10;
constexpr size_t kJitStackBytesMax = 4u << 20;

struct FreePcre2 {
  void operator()(pcre2_code* p) const { pcre2_code_free(p); }
  void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
  void operator()(pcre2_match_context* p) const { pcre2_match_context_free(p); }
  void operator()(pcre2_jit_stack* p) const { pcre2_jit_stack_free(p); }
};
template <class T>
using Owned = std::unique_ptr<T, FreePcre2>;

std::string MessageOf(int error) {
  unsigned char buffer[256] = {};
  pcre2_get_error_message(error, buffer, sizeof buffer);
  return reinterpret_cast<const char*>(buffer);
}

// What a match needs besides the code. One per thread, for all patterns.
struct Scratch {
  Owned<pcre2_match_data> data{pcre2_match_data_create(1, nullptr)};
  Owned<pcre2_match_context> context{pcre2_match_context_create(nullptr)};
  Owned<pcre2_jit_stack> stack{
      pcre2_jit_stack_create(kJitStackBytesMin, kJitStackBytesMax, nullptr)};

  Scratch() {
    KVS_CHECK(data && context && stack);
    pcre2_set_match_limit(context.get(), kMatchLimit);
    pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
  }
};

Scratch& ThreadScratch() {
  thread_local Scratch scratch;
  return scratch;
}

// Rewrites what Oniguruma and PCRE2 read differently, and refuses what cannot be rewritten.
class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  Result<std::string> Run() {
    while (i_ < pattern_.size()) {
      const bool good = pattern_[i_] == '\\' ? Escape() : in_class_ ? InClass() : Outside();
      if (!good) {
        return Error(Code::kDataError, fmt::format("regex '{}': '{}' at byte {} is not supported",
                                                   pattern_, pattern_.substr(i_, 3), i_));
      }
    }
    return std::move(out_);
  }

 private:
  char Peek(size_t ahead) const {
    return i_ + ahead < pattern_.size() ? pattern_[i_ + ahead] : '\0';
  }
  bool Copy(size_t length) {
    out_.append(pattern_.substr(i_, length));
    i_ += length;
    return true;
  }
  bool Replace(size_t length, std::string_view by) {
    out_ += by;
    i_ += length;
    return true;
  }

  bool Escape() {
    switch (const char c = Peek(1)) {
      case 's':  // PCRE2's \s has U+180E besides
        return Replace(2, "\\p{White_Space}");
      case 'S':
        return Replace(2, "\\P{White_Space}");
      case 'w':  // PCRE2's \w lacks marks
        return Replace(2,
                       in_class_ ? "\\p{L}\\p{M}\\p{Nd}\\p{Pc}" : "[\\p{L}\\p{M}\\p{Nd}\\p{Pc}]");
      case 'W':
        return !in_class_ && Replace(2, "[^\\p{L}\\p{M}\\p{Nd}\\p{Pc}]");
      case 'v':  // a vertical tab; a class in PCRE2
        return Replace(2, "\\x0B");
      case 'u':
        return HexEscape();
      case 'p':
      case 'P':
      case 'x':
        return BracedEscape();
      case 'd':
      case 'D':
      case 'r':
      case 'n':
      case 't':
      case 'f':
        return Copy(2);
      default: {
        const bool letter_or_digit =
            (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '\0';
        return !letter_or_digit && Copy(2);
      }
    }
  }

  bool BracedEscape() {  // \p{...}, \x{...}, \xHH
    if (Peek(2) != '{') return Peek(1) == 'x' && Copy(2);
    const size_t close = pattern_.find('}', i_);
    return close != std::string_view::npos && Copy(close + 1 - i_);
  }

  bool HexEscape() {  // \uHHHH, which PCRE2 spells \x{HHHH}
    if (i_ + 6 > pattern_.size()) return false;
    return Replace(6, fmt::format("\\x{{{}}}", pattern_.substr(i_ + 2, 4)));
  }

  bool InClass() {
    const char c = pattern_[i_];
    if (c == '[' || (c == '&' && Peek(1) == '&')) return false;  // nested classes
    if (c == ']') in_class_ = false;
    return Copy(1);
  }

  bool Outside() {
    const char c = pattern_[i_];
    if (c == '[') {
      in_class_ = true;
      const size_t begin = Peek(1) == '^' ? 2 : 1;
      return Peek(begin) != ']' && Copy(begin);
    }
    if (c == '(' && Peek(1) == '?') return Group();
    if (c == '}' && Peek(1) == '+') return false;  // possessive in PCRE2 only
    return Copy(1);
  }

  bool Group() {  // (?:, (?=, (?!, (?<=, (?<!, (?>, (?i:, (?i), (?-i:
    size_t n = 2;
    while (Peek(n) == 'i' || Peek(n) == '-') ++n;
    const char c = Peek(n);
    if (n > 2) return (c == ':' || c == ')') && Copy(n + 1);
    if (c == '<') return (Peek(3) == '=' || Peek(3) == '!') && Copy(4);
    return (c == ':' || c == '=' || c == '!' || c == '>') && Copy(3);
  }

  std::string_view pattern_;
  size_t i_ = 0;
  bool in_class_ = false;
  std::string out_;
};

}  // namespace

namespace internal {
Result<std::string> TranslateRegex(std::string_view pattern) { return Translator(pattern).Run(); }
}  // namespace internal

struct Regex::Compiled {
  Owned<pcre2_code> code;
};

Result<Regex> Regex::Compile(std::string_view pattern) {
  const Result<std::string> translated = internal::TranslateRegex(pattern);
  if (!translated) return tl::unexpected(translated.error());
  int error = 0;
  size_t offset = 0;
  auto compiled = std::make_shared<Compiled>();
  // In Oniguruma's default (Ruby) syntax ^ and $ always mean lines.
  compiled->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated->data()),
                                     translated->size(), PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE,
                                     &error, &offset, nullptr));
  if (!compiled->code) {
    return Error(Code::kDataError, fmt::format("regex '{}': {}", pattern, MessageOf(error)));
  }
  // Without JIT (an architecture that PCRE2 has none for) matching is slower and otherwise equal.
  pcre2_jit_compile(compiled->code.get(), PCRE2_JIT_COMPLETE);
  return Regex(std::move(compiled));
}

Result<void> Regex::FindAll(std::string_view text, ByteRange range,
                            std::vector<ByteRange>& matches) const {
  const Scratch& scratch = ThreadScratch();
  const std::string_view subject = text.substr(range.begin, range.end - range.begin);
  const auto* bytes = reinterpret_cast<PCRE2_SPTR>(subject.data());
  const size_t* found = pcre2_get_ovector_pointer(scratch.data.get());
  size_t start = 0;
  size_t last_end = SIZE_MAX;
  while (start <= subject.size()) {
    const int rc = pcre2_match(code_->code.get(), bytes, subject.size(), start, PCRE2_NO_UTF_CHECK,
                               scratch.data.get(), scratch.context.get());
    if (rc == PCRE2_ERROR_NOMATCH) return {};
    if (rc < 0) {
      return Error(Code::kInvalidArgument,
                   fmt::format("text cannot be split into tokens: {} in the piece at byte {}",
                               MessageOf(rc), range.begin + start));
    }
    const size_t begin = found[0];
    const size_t end = found[1];
    start = end;
    if (begin == end) {  // an empty match moves on by one character
      start += end < subject.size() ? CodePointAt(subject, end).num_bytes : 1;
      if (end == last_end) continue;
    }
    last_end = end;
    matches.push_back({range.begin + begin, range.begin + end});
  }
  return {};
}

}  // namespace kvs
