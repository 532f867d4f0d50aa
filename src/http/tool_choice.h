// tool_choice: whether the model may call tools, and the beginning of a call that it must make.
#pragma once

#include <string>

#include "http/api_error.h"
#include "kvserve/options.h"
#include "template/text.h"
#include "template/value.h"

namespace kvs {

struct ToolChoice {
  bool reads_calls = false;  // calls are looked for in the answer
  bool forced = false;       // the answer is one
  bool named = false;        // the client has said which function it calls
  std::string function;      // of a forced call; empty: the model says which
};

// `choice` as the request has it, or none; `tools` checked, or none. With one tool alone,
// "required" names it.
ApiResult<ToolChoice> ReadToolChoice(const jinja::Value& choice, const jinja::Value& tools,
                                     const ChatOptions& options);

// The beginning of a call as the model writes it, up to where it goes on by itself: its arguments,
// or the name of a function when `function` is empty. It stands behind the prompt, so that the
// model can only go on with the call.
jinja::Text BeginningOfCall(ToolCallParser parser, const std::string& function);

}  // namespace kvs
