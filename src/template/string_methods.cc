// The methods of str.
#include <algorithm>
#include <array>

#include "template/builtins.h"
#include "template/characters.h"
#include "template/error.h"
#include "template/operators.h"
#include "template/print.h"
#include "template/strings.h"

namespace kvs::jinja {
namespace {

using Args = BoundArguments;

template <bool kLeft, bool kRight>
Value Strip(Render& render, const Text& text, const Args& arguments) {
  const std::string* drop = arguments.HasValue(0) ? &arguments.String(0).bytes() : nullptr;
  return MakeString(render, StripText(text, drop, kLeft, kRight));
}

template <Text (*kMap)(const Text&)>
Value Mapped(Render& render, const Text& text, const Args&) {
  return MakeString(render, kMap(text));
}

Value ListOfTexts(Render& render, std::vector<Text> texts, bool is_tuple = false) {
  std::vector<Value> items;
  items.reserve(texts.size());
  for (Text& text : texts) items.push_back(MakeString(render, std::move(text)));
  return MakeList(render, std::move(items), is_tuple);
}

template <std::vector<Text> (*kSplit)(const Text&, const std::string*, int64_t)>
Value Split(Render& render, const Text& text, const Args& arguments) {
  const std::string* separator = arguments.HasValue(0) ? &arguments.String(0).bytes() : nullptr;
  return ListOfTexts(render, kSplit(text, separator, arguments.Integer(1, -1)));
}

Value SplitIntoLines(Render& render, const Text& text, const Args& arguments) {
  return ListOfTexts(render, SplitLines(text, arguments.Truth(0, false)));
}

template <bool kFromRight>
Value Partition(Render& render, const Text& text, const Args& arguments) {
  const std::string& separator = arguments.String(0).bytes();
  if (separator.empty()) Fail("empty separator");
  const size_t at = kFromRight ? text.bytes().rfind(separator) : text.bytes().find(separator);
  std::vector<Text> parts(3);
  if (at == std::string::npos) {
    parts[kFromRight ? 2 : 0] = text;
  } else {
    parts = {text.Slice(0, at), text.Slice(at, at + separator.size()),
             text.Slice(at + separator.size(), text.size())};
  }
  return ListOfTexts(render, std::move(parts), /*is_tuple=*/true);
}

bool HasAffix(const std::string& text, const Value& affix, bool at_end) {
  if (!affix.is_string()) Fail("startswith/endswith takes str, not {}", TypeName(affix));
  const std::string& part = affix.bytes();
  if (part.size() > text.size()) return false;
  return text.compare(at_end ? text.size() - part.size() : 0, part.size(), part) == 0;
}

template <bool kAtEnd>
Value HasAffix(Render&, const Text& text, const Args& arguments) {
  RequireDefined(arguments[0]);
  if (!arguments[0].is_tuple()) return Value(HasAffix(text.bytes(), arguments[0], kAtEnd));
  const auto& all = arguments[0].list().items;
  return Value(std::any_of(all.begin(), all.end(), [&](const Value& affix) {
    return HasAffix(text.bytes(), affix, kAtEnd);
  }));
}

template <bool kAtEnd>
Value RemoveAffix(Render& render, const Text& text, const Args& arguments) {
  const Text& affix = arguments.String(0);
  if (!HasAffix(text.bytes(), Value(affix), kAtEnd)) return MakeString(render, text);
  return MakeString(render, kAtEnd ? text.Slice(0, text.size() - affix.size())
                                   : text.Slice(affix.size(), text.size()));
}

Value Replace(Render& render, const Text& text, const Args& arguments) {
  return MakeString(render, ReplaceText(text, arguments.String(0).bytes(), arguments.String(1),
                                        arguments.Integer(2, -1)));
}

// The place of a part in characters; -1: not there.
int64_t PlaceOf(const Text& text, const Args& arguments, bool from_right) {
  const std::string& part = arguments.String(0).bytes();
  const auto num_chars = static_cast<int64_t>(NumChars(text.bytes()));
  const auto offset = [&](int64_t index) {
    if (index < 0) index = std::max<int64_t>(index + num_chars, 0);
    return OffsetOf(text.bytes(), static_cast<size_t>(std::min(index, num_chars)));
  };
  if (arguments.HasValue(1) && arguments.Integer(1, 0) > num_chars) return -1;
  const size_t begin = arguments.HasValue(1) ? offset(arguments.Integer(1, 0)) : 0;
  const size_t end = arguments.HasValue(2) ? offset(arguments.Integer(2, 0)) : text.size();
  if (begin > end) return -1;
  const std::string_view range = std::string_view(text.bytes()).substr(begin, end - begin);
  const size_t found = from_right ? range.rfind(part) : range.find(part);
  if (found == std::string::npos) return -1;
  return static_cast<int64_t>(NumChars(std::string_view(text.bytes()).substr(0, begin + found)));
}

template <bool kFromRight, bool kMustBeThere>
Value Find(Render&, const Text& text, const Args& arguments) {
  const int64_t place = PlaceOf(text, arguments, kFromRight);
  if (kMustBeThere && place < 0) Fail("substring not found");
  return Value(place);
}

Value Count(Render&, const Text& text, const Args& arguments) {
  const std::string& part = arguments.String(0).bytes();
  if (part.empty()) return Value(static_cast<int64_t>(NumChars(text.bytes())) + 1);
  int64_t count = 0;
  for (size_t at = text.bytes().find(part); at != std::string::npos;
       at = text.bytes().find(part, at + part.size())) {
    ++count;
  }
  return Value(count);
}

Value Join(Render& render, const Text& text, const Args& arguments) {
  Text joined;
  bool first = true;
  RequireDefined(arguments[0]);
  for (const Value& item : ItemsOf(render, arguments[0])) {
    if (!item.is_string()) Fail("join() takes strings, found {}", TypeName(item));
    if (!first) joined.Append(text);
    first = false;
    joined.Append(item.text());
  }
  return MakeString(render, std::move(joined));
}

bool AllAre(const Text& text, bool (*is)(uint32_t)) {
  const std::vector<uint32_t> points = CodePoints(text.bytes());
  return !points.empty() && std::all_of(points.begin(), points.end(), is);
}

template <bool (*kIs)(uint32_t)>
Value All(Render&, const Text& text, const Args&) {
  return Value(AllAre(text, kIs));
}

bool IsAlphanumeric(uint32_t c) { return IsLetter(c) || IsDigit(c); }

// Some cased characters, all of this case.
template <bool (*kIs)(uint32_t), bool (*kIsNot)(uint32_t)>
Value AllCased(Render&, const Text& text, const Args&) {
  const std::vector<uint32_t> points = CodePoints(text.bytes());
  return Value(std::any_of(points.begin(), points.end(), kIs) &&
               std::none_of(points.begin(), points.end(), kIsNot));
}

enum class Side : uint8_t { kLeft, kRight, kCenter };

template <Side kTextAt>
Value Justify(Render& render, const Text& text, const Args& arguments) {
  const auto length = static_cast<int64_t>(NumChars(text.bytes()));
  const int64_t width = arguments.Integer(0, 0);
  const Text fill = arguments.Has(1) ? arguments.String(1) : Text(" ", Origin::kTemplate);
  if (NumChars(fill.bytes()) != 1) Fail("the fill character must be exactly one character long");
  if (width <= length) return MakeString(render, text);
  constexpr int64_t kMaxWidth = 1'000'000;
  if (width > kMaxWidth) Fail("a width of at most {}, got {}", kMaxWidth, width);
  const auto pad = static_cast<size_t>(width - length);
  size_t left = kTextAt == Side::kRight ? pad : 0;
  // As CPython: the odd space is on the left when the width is odd.
  if (kTextAt == Side::kCenter) left = pad / 2 + (pad & static_cast<size_t>(width) & 1);
  return MakeString(render, Padded(text, left, pad - left, fill));
}

Value ZeroFill(Render& render, const Text& text, const Args& arguments) {
  const auto length = static_cast<int64_t>(NumChars(text.bytes()));
  const int64_t width = arguments.Integer(0, 0);
  constexpr int64_t kMaxWidth = 1'000'000;
  if (width > kMaxWidth) Fail("a width of at most {}, got {}", kMaxWidth, width);
  if (width <= length) return MakeString(render, text);
  const bool has_sign = !text.empty() && (text.bytes()[0] == '-' || text.bytes()[0] == '+');
  Text out = text.Slice(0, has_sign ? 1 : 0);
  out.Append(std::string(static_cast<size_t>(width - length), '0'), Origin::kTemplate);
  out.Append(text.Slice(has_sign ? 1 : 0, text.size()));
  return MakeString(render, std::move(out));
}

// One replacement field of str.format: "", "0" or "name", without a format of its own.
const Value& FieldOf(const std::string& name, const Arguments& arguments, size_t& next) {
  if (name.find_first_of(":!.[") != std::string::npos)
    Fail("format(): only {{}}, {{0}} and {{name}} are known");
  size_t index = 0;
  if (name.empty()) {
    index = next++;
  } else if (std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; })) {
    index = name.size() < 6 ? std::stoul(name) : SIZE_MAX;
  } else {
    for (const auto& [known, value] : arguments.named) {
      if (known == name) return value;
    }
    Fail("format() has no argument '{}'", name);
  }
  if (index >= arguments.positional.size()) Fail("format() has too few arguments");
  return arguments.positional[index];
}

Value Format(Render& render, const Text& text, const Arguments& arguments) {
  const std::string& bytes = text.bytes();
  Text out;
  size_t next = 0;
  for (size_t at = 0; at < bytes.size();) {
    const size_t brace = std::min(bytes.find_first_of("{}", at), bytes.size());
    out.Append(text.Slice(at, brace));
    at = brace;
    if (at == bytes.size()) break;
    if (at + 1 < bytes.size() && bytes[at + 1] == bytes[at]) {
      out.Append(text.Slice(at, at + 1));
      at += 2;
      continue;
    }
    const size_t end = bytes[at] == '{' ? bytes.find('}', at) : std::string::npos;
    if (end == std::string::npos) Fail("format(): single '{}' in the format string", bytes[at]);
    out.Append(Str(FieldOf(bytes.substr(at + 1, end - at - 1), arguments, next)));
    at = end + 1;
  }
  return MakeString(render, std::move(out));
}

constexpr std::array<StringMethod, 39> kMethods = {{
    {"strip", {"chars", 0}, Strip<true, true>},
    {"lstrip", {"chars", 0}, Strip<true, false>},
    {"rstrip", {"chars", 0}, Strip<false, true>},
    {"split", {"sep maxsplit", 0}, Split<SplitText>},
    {"rsplit", {"sep maxsplit", 0}, Split<SplitTextFromRight>},
    {"splitlines", {"keepends", 0}, SplitIntoLines},
    {"partition", {"sep", 1}, Partition<false>},
    {"rpartition", {"sep", 1}, Partition<true>},
    {"startswith", {"prefix", 1}, HasAffix<false>},
    {"endswith", {"suffix", 1}, HasAffix<true>},
    {"removeprefix", {"prefix", 1}, RemoveAffix<false>},
    {"removesuffix", {"suffix", 1}, RemoveAffix<true>},
    {"replace", {"old new count", 2}, Replace},
    {"find", {"sub start end", 1}, Find<false, false>},
    {"rfind", {"sub start end", 1}, Find<true, false>},
    {"index", {"sub start end", 1}, Find<false, true>},
    {"rindex", {"sub start end", 1}, Find<true, true>},
    {"count", {"sub", 1}, Count},
    {"join", {"iterable", 1}, Join},
    {"upper", {}, Mapped<ToUpper>},
    {"lower", {}, Mapped<ToLower>},
    {"casefold", {}, Mapped<ToLower>},
    {"capitalize", {}, Mapped<Capitalized>},
    {"title", {}, Mapped<TitleCased>},
    {"swapcase", {}, Mapped<SwapCased>},
    {"isspace", {}, All<IsSpace>},
    {"isalpha", {}, All<IsLetter>},
    {"isdigit", {}, All<IsDigit>},
    {"isdecimal", {}, All<IsDigit>},
    {"isnumeric", {}, All<IsDigit>},
    {"isalnum", {}, All<IsAlphanumeric>},
    {"isupper", {}, AllCased<IsUpper, IsLower>},
    {"islower", {}, AllCased<IsLower, IsUpper>},
    {"ljust", {"width fillchar", 1}, Justify<Side::kLeft>},
    {"rjust", {"width fillchar", 1}, Justify<Side::kRight>},
    {"center", {"width fillchar", 1}, Justify<Side::kCenter>},
    {"zfill", {"width", 1}, ZeroFill},
    {"format", {}, nullptr, Format},
    {"isprintable", {}, All<IsPrintable>},
}};

}  // namespace

std::span<const StringMethod> StringMethods() { return kMethods; }

}  // namespace kvs::jinja
