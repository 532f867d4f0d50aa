#include "tokenize/pretokenize.h"

#include <utility>

namespace kvs {
namespace {

// The pattern that ByteLevel splits with, of GPT-2.
constexpr std::string_view kByteLevelRegex =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Takes matches and the gaps between them from left to right; joins or drops them as the behavior
// asks, and adds what is left to `out`.
class Assembler {
 public:
  Assembler(SplitBehavior behavior, bool invert, std::vector<ByteRange>& out)
      : behavior_(behavior), invert_(invert), out_(out) {}

  void AddPiece(ByteRange whole, const std::vector<ByteRange>& matches) {
    first_ = true;
    size_t end = whole.begin;
    for (const ByteRange& match : matches) {
      Add({end, match.begin}, invert_);
      Add(match, !invert_);
      end = match.end;
    }
    Add({end, whole.end}, invert_);
  }

 private:
  void Add(ByteRange part, bool is_match) {
    if (part.begin == part.end) return;
    if (behavior_ == SplitBehavior::kRemoved && is_match) return;
    if (!first_ && Joins(is_match)) {
      out_.back().end = part.end;
    } else {
      out_.push_back(part);
    }
    first_ = false;
    last_is_match_ = is_match;
  }

  // Whether a part belongs to the one in front of it.
  bool Joins(bool is_match) const {
    switch (behavior_) {
      case SplitBehavior::kContiguous:
        return is_match == last_is_match_;
      case SplitBehavior::kMergedWithPrevious:
        return is_match && !last_is_match_;
      case SplitBehavior::kMergedWithNext:
        return !is_match && last_is_match_;
      case SplitBehavior::kRemoved:
      case SplitBehavior::kIsolated:
        return false;
    }
    return false;
  }

  const SplitBehavior behavior_;
  const bool invert_;
  std::vector<ByteRange>& out_;
  bool first_ = true;
  bool last_is_match_ = false;
};

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
      if (bytes->add_prefix_space) made.steps_.emplace_back(std::in_place_type<PrefixSpaceStep>);
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
  Assembler assembler(step.behavior, step.invert, out);
  for (const ByteRange& range : pieces.ranges) {
    matches.clear();
    KVS_RETURN_IF_ERROR(step.regex.FindAll(pieces.text, range, matches));
    assembler.AddPiece(range, matches);
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
