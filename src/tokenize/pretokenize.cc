#include "tokenize/pretokenize.h"

#include <utility>

namespace kvs {
namespace {

// The pattern that ByteLevel splits with, of GPT-2.
constexpr std::string_view kByteLevelRegex =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

struct Part {
  ByteRange range;
  bool is_match;
};

// Cuts `whole` into matches and the gaps between them.
void Partition(ByteRange whole, const std::vector<ByteRange>& matches, bool invert,
               std::vector<Part>& parts) {
  size_t end = whole.begin;
  const auto add = [&](size_t begin, size_t part_end, bool is_match) {
    if (begin < part_end) parts.push_back({{begin, part_end}, is_match != invert});
  };
  for (const ByteRange& match : matches) {
    add(end, match.begin, false);
    add(match.begin, match.end, true);
    end = match.end;
  }
  add(end, whole.end, false);
}

// Joins or drops the parts as the behavior asks, and adds what is left to `out`.
void Assemble(const std::vector<Part>& parts, SplitBehavior behavior, std::vector<ByteRange>& out) {
  bool joins_next = false;
  for (size_t i = 0; i < parts.size(); ++i) {
    const Part& part = parts[i];
    if (behavior == SplitBehavior::kRemoved && part.is_match) continue;
    if (joins_next) {
      out.back().end = part.range.end;
    } else {
      out.push_back(part.range);
    }
    const bool has_next = i + 1 < parts.size();
    const bool next_is_match = has_next && parts[i + 1].is_match;
    joins_next =
        has_next &&
        ((behavior == SplitBehavior::kContiguous && part.is_match == next_is_match) ||
         (behavior == SplitBehavior::kMergedWithPrevious && !part.is_match && next_is_match) ||
         (behavior == SplitBehavior::kMergedWithNext && part.is_match && !next_is_match));
  }
}

}  // namespace

void Pieces::Reset(std::string_view new_text, bool is_at_start) {
  text.assign(new_text);
  ranges.clear();
  if (!text.empty()) ranges.push_back({0, text.size()});
  at_start = is_at_start;
}

Result<PreTokenizers> PreTokenizers::Make(const std::vector<PreTokenizer>& specs) {
  PreTokenizers made;
  const auto add_split = [&](std::string_view pattern, SplitBehavior behavior,
                             bool invert) -> Result<void> {
    Result<Regex> regex = Regex::Compile(pattern);
    if (!regex) return tl::unexpected(std::move(regex).error());
    made.steps_.push_back(SplitStep{*std::move(regex), behavior, invert});
    return {};
  };
  for (const PreTokenizer& spec : specs) {
    if (const auto* split = std::get_if<SplitPreTokenizer>(&spec)) {
      KVS_RETURN_IF_ERROR(add_split(split->regex, split->behavior, split->invert));
    } else if (const auto* bytes = std::get_if<ByteLevelPreTokenizer>(&spec)) {
      if (bytes->add_prefix_space) made.steps_.push_back(PrefixSpaceStep{});
      if (!bytes->use_regex) continue;
      KVS_RETURN_IF_ERROR(add_split(kByteLevelRegex, SplitBehavior::kIsolated, false));
    } else {
      made.steps_.push_back(std::get<MetaspacePreTokenizer>(spec));
    }
  }
  return made;
}

Result<void> PreTokenizers::Run(Pieces& pieces) const {
  for (const Step& step : steps_) {
    KVS_RETURN_IF_ERROR(std::visit([&](const auto& s) { return Apply(s, pieces); }, step));
  }
  return {};
}

Result<void> PreTokenizers::Apply(const SplitStep& step, Pieces& pieces) {
  std::vector<ByteRange> out;
  std::vector<ByteRange> matches;
  std::vector<Part> parts;
  for (const ByteRange& range : pieces.ranges) {
    matches.clear();
    parts.clear();
    KVS_RETURN_IF_ERROR(step.regex.FindAll(pieces.text, range, matches));
    Partition(range, matches, step.invert, parts);
    Assemble(parts, step.behavior, out);
  }
  pieces.ranges = std::move(out);
  return {};
}

Result<void> PreTokenizers::Apply(const PrefixSpaceStep&, Pieces& pieces) {
  std::string text;
  for (ByteRange& range : pieces.ranges) {
    const size_t begin = text.size();
    if (pieces.text[range.begin] != ' ') text += ' ';
    text.append(pieces.text, range.begin, range.end - range.begin);
    range = {begin, text.size()};
  }
  pieces.text = std::move(text);
  return {};
}

Result<void> PreTokenizers::Apply(const MetaspacePreTokenizer& step, Pieces& pieces) {
  std::string text;
  std::vector<ByteRange> out;
  const std::string& mark = step.replacement;
  for (const ByteRange& range : pieces.ranges) {
    const std::string_view piece =
        std::string_view(pieces.text).substr(range.begin, range.end - range.begin);
    size_t begin = text.size();
    const bool prepend =
        step.prepend == PrependScheme::kAlways ||
        (step.prepend == PrependScheme::kFirst && pieces.at_start && range.begin == 0);
    if (prepend && piece.front() != ' ' && piece.compare(0, mark.size(), mark) != 0) text += mark;
    for (size_t i = 0; i < piece.size();) {
      const bool space = piece[i] == ' ';
      const bool is_mark = space || piece.compare(i, mark.size(), mark) == 0;
      if (is_mark && step.split && text.size() > begin) {
        out.push_back({begin, text.size()});
        begin = text.size();
      }
      if (is_mark) {
        text += mark;
        i += space ? 1 : mark.size();
      } else {
        text += piece[i++];
      }
    }
    out.push_back({begin, text.size()});
  }
  pieces.text = std::move(text);
  pieces.ranges = std::move(out);
  return {};
}

}  // namespace kvs
