// ChatTemplate: how a model wants a conversation written, read from its directory as Transformers
// does: chat_template.jinja, else chat_template.json, else tokenizer_config.json, where it is one
// template or a list of named ones. Immutable: thread-safe.
#pragma once

#include <ctime>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kvserve/status.h"
#include "template/template.h"
#include "template/value.h"

namespace kvs {

struct ChatInputs {
  // Dicts with a role and content. The server's own role names may be the template's text: they are
  // an enumeration, and templates build special tokens of them ("<|" + role + "|>").
  jinja::Value messages;
  jinja::Value tools;  // None: there are none
  bool add_generation_prompt = true;
  // Ends the text where the last message ends, for the model to go on with it.
  bool continue_final_message = false;
  std::vector<std::pair<std::string, jinja::Value>> variables;  // chat_template_kwargs
  std::time_t now = 0;
};

class ChatTemplate {
 public:
  // What a message's content may be.
  enum class ContentForm : uint8_t { kText, kTextOrParts, kParts };

  // `file` replaces the model's own template where it is not empty. Null when there is no template.
  // kNotFound or kDataError, naming the file, for one that cannot be read, parsed, or that runs
  // into a limit with a conversation of one message.
  static Result<std::unique_ptr<const ChatTemplate>> Load(const std::filesystem::path& model_dir,
                                                          const std::string& file);

  // kInvalidArgument when the template refuses the conversation, or the last message is not in the
  // text that is to be continued; kInternal when it runs into a limit.
  Result<jinja::Text> Render(const ChatInputs& inputs) const;

  ContentForm content_form() const { return content_form_; }
  // Whether the template reads a variable of this name: what chat_template_kwargs may set.
  bool Reads(std::string_view name) const;
  const std::string& origin() const { return origin_; }  // the file, for messages

 private:
  struct Named {
    std::string name;
    jinja::Template parsed;
  };

  ChatTemplate() = default;
  Result<void> Add(std::string name, std::string_view source);
  Result<void> AddAll(const jinja::Value& value);
  const jinja::Template& For(const ChatInputs& inputs) const;
  Result<void> Probe();

  std::vector<Named> templates_;  // the first is the default
  std::vector<std::pair<std::string, jinja::Value>> special_tokens_;
  ContentForm content_form_ = ContentForm::kText;
  std::string origin_;
};

}  // namespace kvs
