// Pre-tokenization: a text is cut into the pieces that are merged on their own.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "kvserve/status.h"
#include "tokenize/regex.h"
#include "tokenize/tokenizer_spec.h"

namespace kvs {

// The pieces of one text, in order. A step may rewrite the text; the pieces are ranges of what it
// has become. Reusable: Reset keeps the capacity.
struct Pieces {
  std::string text;
  std::vector<ByteRange> ranges;  // none empty
  bool at_start = true;           // the text is the start of what the caller encodes

  void Reset(std::string_view new_text, bool is_at_start);
};

// Immutable after Make; thread-safe.
class PreTokenizers {
 public:
  // kDataError when a regex does not compile.
  static Result<PreTokenizers> Make(const std::vector<PreTokenizer>& specs);

  // Runs all steps on `pieces`. kInvalidArgument as Regex::FindAll. REQUIRES: the text is UTF-8.
  Result<void> Run(Pieces& pieces) const;

 private:
  struct SplitStep {
    Regex regex;
    SplitBehavior behavior;
    bool invert;
  };
  struct PrefixSpaceStep {};  // puts a space in front of each piece that has none
  using Step = std::variant<SplitStep, PrefixSpaceStep, MetaspacePreTokenizer>;

  static Result<void> Apply(const SplitStep& step, Pieces& pieces);
  static Result<void> Apply(const PrefixSpaceStep& step, Pieces& pieces);
  static Result<void> Apply(const MetaspacePreTokenizer& step, Pieces& pieces);

  std::vector<Step> steps_;
};

}  // namespace kvs
