#include "template/lexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "template/characters.h"
#include "template/error.h"
#include "tokenize/utf8.h"

namespace kvs::jinja {
namespace {

constexpr size_t kNone = std::string_view::npos;

// Longest first.
constexpr std::array<std::string_view, 29> kOperators = {
    "==", "!=", ">=", "<=", "//", "**", "+", "-", "/", "*", "%", "~", "[", "]", "(",
    ")",  "{",  "}",  ">",  "<",  "=",  ".", ":", "|", ",", ";", "!", "&", "^"};

bool IsNameStart(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80) != 0;
}
bool IsAsciiDigit(char c) { return c >= '0' && c <= '9'; }
bool IsNamePart(char c) { return IsNameStart(c) || IsAsciiDigit(c); }

// "\r\n" and "\r" are lines' ends too; one at the very end of the source is not text.
std::string Normalized(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      text += source[i];
      continue;
    }
    text += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(Normalized(source)) {}

  std::vector<Token> Run() {
    while (at_ < source_.size()) ReadTextAndTag();
    Add(Token::Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return std::string_view(source_).substr(at_); }
  bool Looking(std::string_view at) const { return rest().substr(0, at.size()) == at; }

  [[noreturn]] void Refuse(std::string message) const {
    throw TemplateError{std::move(message), TemplateError::Cause::kFault, line_};
  }

  void Add(Token::Kind kind, std::string text) {
    tokens_.push_back({kind, std::move(text), line_});
  }

  // Moves on, counting lines.
  void Skip(size_t num_bytes) {
    const auto begin = source_.begin() + static_cast<std::ptrdiff_t>(at_);
    line_ += static_cast<uint32_t>(
        std::count(begin, begin + static_cast<std::ptrdiff_t>(num_bytes), '\n'));
    at_ += num_bytes;
    if (num_bytes > 0) at_line_start_ = source_[at_ - 1] == '\n';
  }

  void SkipSpace() {
    size_t end = at_;
    while (end < source_.size()) {
      const CodePoint c = CodePointAt(source_, end);
      if (!IsSpace(c.value)) break;
      end += c.num_bytes;
    }
    Skip(end - at_);
  }

  void ReadTextAndTag() {
    size_t tag = at_;
    for (;; ++tag) {
      tag = source_.find('{', tag);
      if (tag == kNone || tag + 1 >= source_.size()) return AddText(rest());
      const char next = source_[tag + 1];
      if (next == '%' || next == '{' || next == '#') break;
    }
    const char kind = source_[tag + 1];
    const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
    AddText(TextBefore(tag, kind, sign), tag - at_);
    const bool has_sign = sign == '-' || sign == '+';
    tag_line_ = line_;
    Skip(has_sign ? 3 : 2);
    if (kind == '#') return SkipComment();
    if (kind == '%' && TryRaw()) return;
    Add(kind == '%' ? Token::Kind::kBlockBegin : Token::Kind::kVariableBegin, "");
    ReadTag(kind);
  }

  // What the tag's own sign, or lstrip_blocks, leaves of the text in front of it.
  std::string_view TextBefore(size_t tag, char kind, char sign) const {
    const std::string_view text = std::string_view(source_).substr(at_, tag - at_);
    if (sign == '-') return text.substr(0, Stripped(text, nullptr, false, true).end);
    if (sign == '+' || kind == '{') return text;
    const size_t line_end = text.rfind('\n');
    const size_t begin = line_end == kNone ? 0 : line_end + 1;
    if (begin == 0 && !at_line_start_) return text;
    const std::string_view indent = text.substr(begin);
    const ByteSpan left = Stripped(indent, nullptr, true, false);
    return left.begin == indent.size() ? text.substr(0, begin) : text;
  }

  void AddText(std::string_view text) { AddText(text, text.size()); }
  void AddText(std::string_view text, size_t num_bytes) {
    if (!text.empty()) Add(Token::Kind::kText, std::string(text));
    Skip(num_bytes);
  }

  // After a tag that ends a block: "-" takes all white space along, trim_blocks one line's end.
  void EndBlock(char sign) {
    if (sign == '-') return SkipSpace();
    if (sign != '+' && Looking("\n")) Skip(1);
  }

  void SkipComment() {
    const size_t end = source_.find("#}", at_);
    if (end == kNone) Refuse("the comment is not closed: #} is missing");
    const char sign = end > at_ ? source_[end - 1] : '\0';
    Skip(end + 2 - at_);
    EndBlock(sign);
  }

  // {% raw %} ... {% endraw %}; false for another tag.
  bool TryRaw() {
    const size_t start = at_;
    const uint32_t line = line_;
    SkipSpace();
    const bool named = Looking("raw");
    if (named) Skip(3);
    SkipSpace();
    const bool trims = named && Looking("-%}");
    if (!named || !(trims || Looking("%}"))) {
      at_ = start;
      line_ = line;
      return false;
    }
    Skip(trims ? 3 : 2);
    if (trims) SkipSpace();
    const RawEnd end = FindRawEnd();
    const size_t tag = end.begin;
    AddText(TextBefore(tag, '%', source_[tag + 2]), tag - at_);
    Skip(end.end - at_);
    EndBlock(end.sign);
    return true;
  }

  struct RawEnd {
    size_t begin;
    size_t end;
    char sign;  // in front of its "%}"
  };
  RawEnd FindRawEnd() const {
    for (size_t tag = source_.find("{%", at_); tag != kNone; tag = source_.find("{%", tag + 1)) {
      size_t i = tag + 2;
      const auto skip_space = [&] {
        i += Stripped(std::string_view(source_).substr(i), nullptr, true, false).begin;
      };
      if (i < source_.size() && (source_[i] == '-' || source_[i] == '+')) ++i;
      skip_space();
      if (source_.compare(i, 6, "endraw") != 0) continue;
      i += 6;
      skip_space();
      char sign = '\0';
      if (i < source_.size() && (source_[i] == '-' || source_[i] == '+')) sign = source_[i++];
      if (source_.compare(i, 2, "%}") == 0) return {tag, i + 2, sign};
    }
    Refuse("{% raw %} is not closed: {% endraw %} is missing");
  }

  void ReadTag(char kind) {
    open_.clear();
    while (true) {
      SkipSpace();
      if (at_ >= source_.size()) {
        line_ = tag_line_;
        Refuse(fmt::format("the tag is not closed: {} is missing", kind == '%' ? "%}" : "}}"));
      }
      if (open_.empty() && TryTagEnd(kind)) return;
      ReadToken();
    }
  }

  bool TryTagEnd(char kind) {
    const std::string_view end = kind == '%' ? "%}" : "}}";
    const bool has_sign = rest()[0] == '-' || (kind == '%' && rest()[0] == '+');
    if (rest().substr(has_sign ? 1 : 0, 2) != end) return false;
    const char sign = has_sign ? rest()[0] : '\0';
    Add(kind == '%' ? Token::Kind::kBlockEnd : Token::Kind::kVariableEnd, "");
    Skip(has_sign ? 3 : 2);
    if (kind == '%') {
      EndBlock(sign);
    } else if (sign == '-') {
      SkipSpace();
    }
    return true;
  }

  void ReadToken() {
    const char c = rest()[0];
    if (IsNameStart(c)) return ReadName();
    if (IsAsciiDigit(c)) return ReadNumber();
    if (c == '"' || c == '\'') return ReadString(c);
    for (const std::string_view op : kOperators) {
      if (!Looking(op)) continue;
      CheckBrackets(op);
      Add(Token::Kind::kOperator, std::string(op));
      return Skip(op.size());
    }
    Refuse(fmt::format("unexpected character '{}'", c));
  }

  void CheckBrackets(std::string_view op) {
    constexpr std::string_view kOpening = "([{";
    constexpr std::string_view kClosing = ")]}";
    if (op.size() != 1) return;
    if (kOpening.find(op) != kNone) open_ += kClosing[kOpening.find(op)];
    if (kClosing.find(op) == kNone) return;
    if (open_.empty()) Refuse(fmt::format("unexpected '{}'", op));
    if (open_.back() != op[0]) {
      Refuse(fmt::format("unexpected '{}', expected '{}'", op, open_.back()));
    }
    open_.pop_back();
  }

  void ReadName() {
    size_t end = at_;
    while (end < source_.size() && IsNamePart(source_[end])) ++end;
    Add(Token::Kind::kName, source_.substr(at_, end - at_));
    Skip(end - at_);
  }

  // Digits with single '_' between them; the offset behind them.
  size_t DigitsEnd(size_t at) const {
    while (at < source_.size() &&
           (IsAsciiDigit(source_[at]) ||
            (source_[at] == '_' && at + 1 < source_.size() && IsAsciiDigit(source_[at + 1])))) {
      ++at;
    }
    return at;
  }

  void ReadNumber() {
    size_t end = DigitsEnd(at_);
    bool is_float = false;
    const auto digit_at = [&](size_t i) { return i < source_.size() && IsAsciiDigit(source_[i]); };
    const bool after_dot = !tokens_.empty() && tokens_.back().IsOperator(".");
    if (!after_dot && end < source_.size() && source_[end] == '.' && digit_at(end + 1)) {
      is_float = true;
      end = DigitsEnd(end + 1);
    }
    if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
      const size_t sign =
          end + 1 < source_.size() && (source_[end + 1] == '+' || source_[end + 1] == '-') ? 1 : 0;
      if (digit_at(end + 1 + sign)) {
        is_float = true;
        end = DigitsEnd(end + 1 + sign);
      }
    }
    std::string digits = source_.substr(at_, end - at_);
    digits.erase(std::remove(digits.begin(), digits.end(), '_'), digits.end());
    Add(is_float ? Token::Kind::kFloat : Token::Kind::kInteger, std::move(digits));
    Skip(end - at_);
  }

  void ReadString(char quote) {
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) Refuse("the string is not closed");
    Add(Token::Kind::kString, Unescaped(std::string_view(source_).substr(at_ + 1, end - at_ - 1)));
    Skip(end + 1 - at_);
  }

  std::string Unescaped(std::string_view text) const {
    std::string out;
    for (size_t i = 0; i < text.size();) {
      if (text[i] != '\\' || i + 1 >= text.size()) {
        out += text[i++];
      } else {
        i = AppendEscape(text, i + 1, out);
      }
    }
    return out;
  }

  // `at` is behind the backslash; returns where the text goes on.
  size_t AppendEscape(std::string_view text, size_t at, std::string& out) const {
    constexpr std::string_view kNames = "nrtabfv\\'\"";
    constexpr std::string_view kValues = "\n\r\t\a\b\f\v\\'\"";
    const char c = text[at];
    if (c == '\n') return at + 1;
    if (const size_t found = kNames.find(c); found != kNone) {
      out += kValues[found];
      return at + 1;
    }
    if (c == 'x') return AppendCode(text, at + 1, 2, 16, out);
    if (c == 'u') return AppendCode(text, at + 1, 4, 16, out);
    if (c == 'U') return AppendCode(text, at + 1, 8, 16, out);
    if (c >= '0' && c <= '7') {
      size_t num_digits = 1;
      while (num_digits < 3 && at + num_digits < text.size() && text[at + num_digits] >= '0' &&
             text[at + num_digits] <= '7') {
        ++num_digits;
      }
      return AppendCode(text, at, num_digits, 8, out);
    }
    if (c == 'N') Refuse("\\N{...} in a string is not supported: write \\uXXXX");
    out += '\\';
    return at;
  }

  size_t AppendCode(std::string_view text, size_t at, size_t num_digits, int base,
                    std::string& out) const {
    const std::string digits(text.substr(std::min(at, text.size()), num_digits));
    char* end = nullptr;
    const unsigned long code = std::strtoul(digits.c_str(), &end, base);
    const bool whole = digits.size() == num_digits && end == digits.c_str() + digits.size() &&
                       std::isxdigit(static_cast<unsigned char>(digits[0])) != 0;
    if (!whole || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
      Refuse(fmt::format("a string's escape with '{}' names no character", digits));
    }
    AppendUtf8(static_cast<uint32_t>(code), out);
    return at + num_digits;
  }

  const std::string source_;
  size_t at_ = 0;
  uint32_t line_ = 1;
  uint32_t tag_line_ = 1;
  bool at_line_start_ = true;
  std::string open_;  // the brackets that close what is open in this tag, innermost last
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> Tokenize(std::string_view source) { return Lexer(source).Run(); }

}  // namespace kvs::jinja
