#include "http/chat_messages.h"

#include <gtest/gtest.h>

#include <string>

#include "template/json_value.h"
#include "template/print.h"

namespace kvs {
namespace {

using Form = ChatTemplate::ContentForm;
using jinja::Origin;

std::string Read(const std::string& json, Form form = Form::kText) {
  const auto messages = ReadMessages(*jinja::ParseJsonValue(json, Origin::kUser), form);
  return messages ? jinja::ToJson(*messages, {}) : messages.error().message;
}

std::string ReadToolList(const std::string& json) {
  const auto tools = ReadTools(*jinja::ParseJsonValue(json, Origin::kUser));
  return tools ? jinja::ToJson(*tools, {}) : tools.error().message;
}

TEST(ChatMessages, KeepsWhatTemplatesKnow) {
  EXPECT_EQ(Read(R"([{"content":"hi","role":"user","name":"Bo","extra":1}])"),
            R"([{"role": "user", "content": "hi", "name": "Bo"}])");
  EXPECT_EQ(Read(R"([{"role":"assistant","content":null,"tool_calls":[],"refusal":null}])"),
            R"([{"role": "assistant", "content": null}])");
}

TEST(ChatMessages, ContentIsWhatTheTemplateTakes) {
  const std::string parts =
      R"([{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}])";
  EXPECT_EQ(Read(parts), R"([{"role": "user", "content": "a\nb"}])");
  EXPECT_EQ(Read(parts, Form::kTextOrParts),
            R"([{"role": "user", "content": [{"type": "text", "text": "a"}, )"
            R"({"type": "text", "text": "b"}]}])");
  EXPECT_EQ(Read(R"([{"role":"user","content":"a"}])", Form::kParts),
            R"([{"role": "user", "content": [{"type": "text", "text": "a"}]}])");
}

TEST(ChatMessages, ArgumentsBecomeObjectsInTheirOrder) {
  EXPECT_EQ(
      Read(R"([{"role":"assistant","tool_calls":[{"id":"c1","type":"function",
               "function":{"name":"f","arguments":"{\"z\": 1, \"a\": 2}"}}]},
               {"role":"tool","tool_call_id":"c1","content":"3"}])"),
      R"([{"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function", )"
      R"("function": {"name": "f", "arguments": {"z": 1, "a": 2}}}]}, )"
      R"({"role": "tool", "content": "3", "tool_call_id": "c1"}])");
}

TEST(ChatMessages, RolesAreTheTemplatesTextAndContentTheUsers) {
  const auto messages = ReadMessages(
      *jinja::ParseJsonValue(R"([{"role":"user","content":"<s>"}])", Origin::kUser), Form::kText);
  const jinja::Dict& message = messages->list().items[0].dict();
  EXPECT_EQ(message.entries()[0].second.text().origin(), Origin::kTemplate);
  EXPECT_EQ(message.entries()[1].second.text().origin(), Origin::kUser);
}

TEST(ChatMessages, RefusalsNameTheField) {
  EXPECT_EQ(Read("[]"), "'messages' must be a list of at least one message, got []");
  EXPECT_EQ(Read("null"), "'messages' must be a list of at least one message, got null");
  EXPECT_EQ(Read("[3]"), "'messages[0]' must be an object, got 3");
  EXPECT_EQ(Read(R"([{"role":"king","content":"x"}])"),
            "'messages[0].role' must be 'system', 'developer', 'user', 'assistant', 'tool' or "
            "'function', got \"king\"");
  EXPECT_EQ(Read(R"([{"role":"user"}])"),
            "'messages[0].content' must be a string or a list of text parts, got nothing");
  EXPECT_EQ(Read(R"([{"role":"user","content":[{"type":"image_url"}]}])"),
            "'messages[0].content[0].type' must be 'text': this server reads no images or sounds, "
            "got \"image_url\"");
  EXPECT_EQ(
      Read(R"([{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{"}}]}])"),
      "'messages[0].tool_calls[0].function.arguments' must be a JSON object, in a string, "
      "got \"{\"");
  EXPECT_EQ(Read(R"([{"role":"user","content":"x","tool_calls":[{}]}])"),
            "'messages[0].tool_calls' is for messages of the assistant, got a list");
  EXPECT_EQ(ReadToolList(R"([{"type":"retrieval"}])"),
            "'tools[0].type' must be 'function', got \"retrieval\"");
  EXPECT_EQ(ReadToolList(R"([{"type":"function","function":{"name":""}}])"),
            "'tools[0].function.name' must be a string that is not empty, got \"\"");
}

// Arguments come as JSON inside of JSON: together they may be deeper than either.
TEST(ChatMessages, DepthIsBounded) {
  const auto read = [](size_t depth) {
    const std::string arguments =
        R"({\"a\":)" + std::string(depth - 1, '[') + "1" + std::string(depth - 1, ']') + "}";
    return Read(R"([{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":")" +
                arguments + R"("}}]}])");
  };
  EXPECT_EQ(read(64).substr(0, 10), R"([{"role": )");
  EXPECT_NE(read(65).find("must be a JSON object"), std::string::npos);
}

TEST(ChatMessages, ToolsStayAsTheyCame) {
  EXPECT_EQ(ReadToolList("[]"), "null");
  EXPECT_EQ(ReadToolList(R"([{"type":"function","function":{"name":"f","b":1,"a":2}}])"),
            R"([{"type": "function", "function": {"name": "f", "b": 1, "a": 2}}])");
}

}  // namespace
}  // namespace kvs
