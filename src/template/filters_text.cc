// Filters of text. What is not a string is printed first, as jinja2 does.
#include <algorithm>
#include <array>

#include "template/builtins.h"
#include "template/characters.h"
#include "template/error.h"
#include "template/operators.h"
#include "template/percent_format.h"
#include "template/print.h"
#include "template/strings.h"

namespace kvs::jinja {
namespace {

// The input where it must be a string already.
const Text& StringInput(const Value& input, std::string_view filter) {
  RequireDefined(input);
  if (!input.is_string()) Fail("{}() takes a string, not {}", filter, TypeName(input));
  return input.text();
}

Value Upper(Render& render, const Value& input, const BoundArguments&) {
  return MakeString(render, ToUpper(Str(input)));
}
Value Lower(Render& render, const Value& input, const BoundArguments&) {
  return MakeString(render, ToLower(Str(input)));
}
Value Capitalize(Render& render, const Value& input, const BoundArguments&) {
  return MakeString(render, Capitalized(Str(input)));
}

// Words begin after white space, a hyphen or an opening bracket, unlike those of str.title().
Value Title(Render& render, const Value& input, const BoundArguments&) {
  const Text text = Str(input);
  Text titled;
  bool at_start = true;
  text.ForEachRun([&](std::string_view run, Origin origin) {
    std::string image;
    for (const uint32_t c : CodePoints(run)) {
      AppendInCase(c, at_start ? Case::kUpper : Case::kLower, image);
      at_start = IsSpace(c) || (c < 0x80 && std::string_view("-({[<").find(static_cast<char>(c)) !=
                                                std::string_view::npos);
    }
    titled.Append(image, origin);
  });
  return MakeString(render, std::move(titled));
}

Value Trim(Render& render, const Value& input, const BoundArguments& arguments) {
  const std::string* drop = arguments.HasValue(0) ? &arguments.String(0).bytes() : nullptr;
  return MakeString(render, StripText(Str(input), drop, true, true));
}

Value Replace(Render& render, const Value& input, const BoundArguments& arguments) {
  const int64_t count = arguments.HasValue(2) ? arguments.Integer(2, -1) : -1;
  return MakeString(render,
                    ReplaceText(Str(input), Str(arguments[0]).bytes(), Str(arguments[1]), count));
}

Value Indent(Render& render, const Value& input, const BoundArguments& arguments) {
  Text indent;
  if (arguments.Has(0) && arguments[0].is_string()) {
    indent = arguments[0].text();
  } else {
    constexpr int64_t kMaxWidth = 1000;
    const int64_t width = arguments.Integer(0, 4);
    if (width > kMaxWidth) Fail("indent() takes a width of at most {}, got {}", kMaxWidth, width);
    indent =
        Text(std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' '), Origin::kTemplate);
  }
  Text text = StringInput(input, "indent");
  text.Append("\n", Origin::kTemplate);  // so that the last line counts also when it is empty
  const bool blank = arguments.Truth(2, false);
  Text out;
  bool first = true;
  for (const Text& line : SplitLines(text, /*keep_ends=*/false)) {
    if (!first) out.Append("\n", Origin::kTemplate);
    const bool indents = first ? arguments.Truth(1, false) : blank || !line.empty();
    if (indents) out.Append(indent);
    out.Append(line);
    first = false;
  }
  return MakeString(render, std::move(out));
}

Value Truncate(Render& render, const Value& input, const BoundArguments& arguments) {
  const Text& text = StringInput(input, "truncate");
  const int64_t length = arguments.Integer(0, 255);
  const Text end = arguments.HasValue(2) ? arguments.String(2) : Text("...", Origin::kTemplate);
  const int64_t leeway = arguments.HasValue(3) ? arguments.Integer(3, 5) : 5;
  const auto end_length = static_cast<int64_t>(NumChars(end.bytes()));
  if (length < end_length) Fail("expected length >= {}, got {}", end_length, length);
  if (leeway < 0) Fail("expected leeway >= 0, got {}", leeway);
  if (static_cast<int64_t>(NumChars(text.bytes())) <= length + leeway) return input;
  const size_t cut = OffsetOf(text.bytes(), static_cast<size_t>(length - end_length));
  Text out = text.Slice(0, cut);
  const size_t space = out.bytes().rfind(' ');
  if (!arguments.Truth(1, false) && space != std::string::npos) out = out.Slice(0, space);
  out.Append(end);
  return MakeString(render, std::move(out));
}

Value Center(Render& render, const Value& input, const BoundArguments& arguments) {
  const Text text = Str(input);
  Arguments width;
  width.positional.push_back(arguments.Has(0) ? arguments[0] : Value(int64_t{80}));
  return CallMethod(render, Value(text), "center", std::move(width));
}

Value WordCount(Render&, const Value& input, const BoundArguments&) {
  int64_t count = 0;
  bool in_word = false;
  for (const uint32_t c : CodePoints(Str(input).bytes())) {
    const bool part = c == '_' || IsLetter(c) || IsDigit(c);
    if (part && !in_word) ++count;
    in_word = part;
  }
  return Value(count);
}

Value Escape(Render& render, const Value& input, const BoundArguments&) {
  constexpr std::string_view kSpecial = "&<>'\"";
  constexpr std::array<std::string_view, 5> kNames = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
  Text out;
  Str(input).ForEachRun([&](std::string_view run, Origin origin) {
    std::string escaped;
    for (const char c : run) {
      const size_t found = kSpecial.find(c);
      if (found == std::string_view::npos) {
        escaped += c;
      } else {
        escaped += kNames[found];
      }
    }
    out.Append(escaped, origin);
  });
  return MakeString(render, std::move(out));
}

Value Format(Render& render, const Value& input, Arguments arguments) {
  if (!arguments.named.empty()) Fail("format() takes positional arguments only");
  const Value values = MakeList(render, std::move(arguments.positional), /*is_tuple=*/true);
  return MakeString(render, PercentFormat(Str(input), values));
}

constexpr std::array<Filter, 13> kTextFilters = {{
    {"upper", {}, Upper},
    {"lower", {}, Lower},
    {"capitalize", {}, Capitalize},
    {"title", {}, Title},
    {"trim", {"chars", 0}, Trim},
    {"replace", {"old new count", 2}, Replace},
    {"indent", {"width first blank", 0}, Indent},
    {"truncate", {"length killwords end leeway", 0}, Truncate},
    {"center", {"width", 0}, Center},
    {"wordcount", {}, WordCount},
    {"escape", {}, Escape},
    {"e", {}, Escape},
    {"format", {}, nullptr, Format},
}};

}  // namespace

std::span<const Filter> TextFilters() { return kTextFilters; }

}  // namespace kvs::jinja
