// AnswerReader: the text of one chat answer while it arrives -> its content, its reasoning, and its
// tool calls. Pieces joined are the same however the text was cut. Used by one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "http/chat_parse.h"

namespace kvs {

struct ToolCallText {
  std::string name;
  std::string arguments;  // a JSON object
};

struct AnswerParts {
  std::string content;
  std::string reasoning;
  std::vector<ToolCallText> tool_calls;  // whole ones

  bool empty() const { return content.empty() && reasoning.empty() && tool_calls.empty(); }
};

class AnswerReader {
 public:
  explicit AnswerReader(const AnswerReading& reading)
      : reading_(reading),
        state_(reading.begun.empty() ? State::kStart : State::kAnswer),
        pending_(reading.begun) {}

  // Adds to `out` what `text` makes certain.
  void Append(std::string_view text, AnswerParts& out);
  // After the last text: what was held back. A call that is not whole is content; one that the
  // prompt began has the text of its arguments as it is.
  void Finish(AnswerParts& out);

  size_t num_tool_calls() const { return num_tool_calls_; }

 private:
  // Where the text stands. Reasoning may stand before the rest; between Hermes' marks is a call;
  // Llama 3's calls are the whole answer.
  enum class State : uint8_t {
    kStart,      // reasoning may begin
    kReasoning,  // up to its end
    kSkip,       // white space behind reasoning or a call: nobody's
    kAnswer,     // the answer proper begins
    kContent,
    kCall,
    kJson
  };

  // Looks at `pending_` once; false when it needs more text.
  bool Step(bool at_end, AnswerParts& out);
  bool StepStart(bool at_end);
  bool StepReasoning(bool at_end, AnswerParts& out);
  bool StepSkip();
  bool StepAnswer(bool at_end);
  bool StepContent(bool at_end, AnswerParts& out);
  bool StepCall(bool at_end, AnswerParts& out);
  bool StepJson(AnswerParts& out);
  // Moves the text before `mark` to `to`: all that cannot be its beginning. True when it was found;
  // it is then taken too.
  bool TakeUntil(std::string_view mark, bool at_end, std::string& to);
  bool AddCall(std::string_view json, AnswerParts& out);
  // A call that the prompt began and that is no JSON: false unless its function can be read.
  bool AddBrokenCall(std::string_view text, AnswerParts& out);

  const AnswerReading reading_;
  State state_;
  std::string pending_;  // not yet certain
  size_t scanned_ = 0;   // kJson: of pending_
  int braces_ = 0;       // kJson: open ones at scanned_
  bool in_string_ = false;
  bool escaped_ = false;
  size_t num_tool_calls_ = 0;
};

}  // namespace kvs
