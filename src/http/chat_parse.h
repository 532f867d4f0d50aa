// The body of a chat call -> a CompletionCall whose prompt is the rendered conversation, and how
// its answer is read back.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "http/openai_parse.h"
#include "kvserve/options.h"

namespace kvs {

// What is looked for in the answer's text.
struct AnswerReading {
  std::optional<ToolCallParser> tool_calls = {};  // absent: none are
  std::optional<ReasoningParser> reasoning = {};
  bool starts_in_reasoning =
      false;                    // the prompt has opened it, or the model never writes its start
  bool one_tool_call = false;   // parallel_tool_calls is false, or a function was named
  std::string begun = {};       // the beginning of a call, which the prompt ends with; mostly empty
  bool names_function = false;  // then: the client has named the function
};

// POST /v1/chat/completions.
struct ChatCall {
  CompletionCall completion;
  AnswerReading reading;
};
ApiResult<ChatCall> ParseChat(std::string_view body, const ParseContext& context);

// POST /tokenize with messages in place of a prompt.
ApiResult<TokenizeCall> ParseTokenizeChat(std::string_view body, const ParseContext& context);

}  // namespace kvs
