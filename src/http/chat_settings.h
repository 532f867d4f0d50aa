// How this server speaks chat: the model's template, and which of its habits are parsed.
#pragma once

#include <memory>
#include <string>

#include "kvserve/options.h"
#include "template/chat_template.h"

namespace kvs {

struct ChatSettings {
  ChatOptions options;
  std::shared_ptr<const ChatTemplate> chat_template;  // null: chat is refused
  std::string why_no_template;                        // then: a sentence for the client
};

}  // namespace kvs
