// The messages and tools of a chat call: checked, and brought into the form that chat templates are
// written for.
#pragma once

#include "http/api_error.h"
#include "template/chat_template.h"
#include "template/value.h"

namespace kvs {

inline constexpr size_t kMaxTools = 1024;

// `messages` as the client sent it -> what the template gets: known fields alone, content as a text
// or a list of text parts as `form` says, the arguments of tool calls as objects. Roles become the
// template's own text, since they are one of a list. 400 names the message and field at fault.
ApiResult<jinja::Value> ReadMessages(const jinja::Value& messages, ChatTemplate::ContentForm form);

// `tools`: None when there are none. Each a function with a name; the rest is the model's to read.
ApiResult<jinja::Value> ReadTools(const jinja::Value& tools);

}  // namespace kvs
