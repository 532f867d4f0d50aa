#include "template/chat_template.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "template/json_value.h"

namespace kvs {
namespace {

using jinja::Origin;
using jinja::ParseJsonValue;

// A model directory that goes away with the test.
class ChatTemplateTest : public testing::Test {
 protected:
  ChatTemplateTest()
      : dir_(std::filesystem::temp_directory_path() /
             ("kvs_chat_template_" + std::to_string(getpid()))) {
    std::filesystem::create_directories(dir_);
  }
  ~ChatTemplateTest() override { std::filesystem::remove_all(dir_); }

  void Write(const std::string& name, const std::string& text) {
    std::ofstream(dir_ / name, std::ios::binary) << text;
  }

  std::string RenderedBy(const std::string& messages, const std::string& file = {},
                         bool continues = false) {
    const auto chat = ChatTemplate::Load(dir_, file);
    if (!chat) return "load: " + chat.error().message();
    if (*chat == nullptr) return "none";
    ChatInputs inputs;
    inputs.messages = *ParseJsonValue(messages, Origin::kUser);
    inputs.continue_final_message = continues;
    const auto text = (*chat)->Render(inputs);
    return text ? text->bytes() : text.error().message();
  }

  const std::filesystem::path dir_;
};

constexpr char kHello[] = R"([{"role":"user","content":"hello"}])";

TEST_F(ChatTemplateTest, NoTemplateIsNull) {
  EXPECT_EQ(RenderedBy(kHello), "none");
  Write("tokenizer_config.json", R"({"bos_token":"<s>"})");
  EXPECT_EQ(RenderedBy(kHello), "none");
}

TEST_F(ChatTemplateTest, TokenizerConfigGivesTemplateAndTokens) {
  Write("tokenizer_config.json",
        R"({"bos_token":{"content":"<s>"},"eos_token":"</s>",
            "chat_template":"{{ bos_token }}{{ messages[0].content }}{{ eos_token }}"})");
  EXPECT_EQ(RenderedBy(kHello), "<s>hello</s>");
}

TEST_F(ChatTemplateTest, NamedTemplatesAreChosenByTools) {
  Write("tokenizer_config.json",
        R"({"chat_template":[{"name":"tool_use","template":"T{{ tools | length }}"},
                             {"name":"default","template":"D"}]})");
  EXPECT_EQ(RenderedBy(kHello), "D");
  const auto chat = ChatTemplate::Load(dir_, {});
  ASSERT_TRUE(chat);
  ChatInputs inputs;
  inputs.messages = *ParseJsonValue(kHello, Origin::kUser);
  inputs.tools = *ParseJsonValue(R"([{"type":"function"}])", Origin::kUser);
  EXPECT_EQ((*chat)->Render(inputs)->bytes(), "T1");
}

TEST_F(ChatTemplateTest, FilesGoFirst) {
  Write("tokenizer_config.json", R"({"chat_template":"config"})");
  Write("chat_template.json", R"({"chat_template":"json"})");
  EXPECT_EQ(RenderedBy(kHello), "json");
  Write("chat_template.jinja", "jinja");
  EXPECT_EQ(RenderedBy(kHello), "jinja");
  Write("other.jinja", "other");
  EXPECT_EQ(RenderedBy(kHello, (dir_ / "other.jinja").string()), "other");
  EXPECT_NE(RenderedBy(kHello, (dir_ / "absent.jinja").string()).find("cannot read"),
            std::string::npos);
}

TEST_F(ChatTemplateTest, ABadTemplateNamesItsFile) {
  Write("chat_template.jinja", "a\n{% if x %}");
  const std::string error = RenderedBy(kHello);
  EXPECT_NE(error.find("chat_template.jinja"), std::string::npos) << error;
  EXPECT_NE(error.find("line 2"), std::string::npos) << error;
  Write("chat_template.jinja",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}");
  EXPECT_NE(RenderedBy(kHello).find("intermediate values"), std::string::npos);
}

TEST_F(ChatTemplateTest, ContentFormIsWhatTheTemplateWritesOut) {
  const auto form = [&](const std::string& source) {
    Write("chat_template.jinja", source);
    return (*ChatTemplate::Load(dir_, {}))->content_form();
  };
  using Form = ChatTemplate::ContentForm;
  EXPECT_EQ(form("{{ messages[0].content | trim }}"), Form::kText);
  EXPECT_EQ(form("{{ messages[0].content[0].text }}"), Form::kParts);
  EXPECT_EQ(form("{% set c = messages[0].content %}{% if c is string %}{{ c }}{% else %}"
                 "{% for p in c %}{{ p.text }}{% endfor %}{% endif %}"),
            Form::kTextOrParts);
}

TEST_F(ChatTemplateTest, ContinuesTheFinalMessage) {
  Write("chat_template.jinja",
        "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</{{ m.role }}>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}");
  EXPECT_EQ(
      RenderedBy(R"([{"role":"user","content":"x"},{"role":"assistant","content":" so it "}])", {},
                 true),
      "<user>x</user><assistant>so it");
  EXPECT_NE(RenderedBy(R"([{"role":"assistant","content":"  "}])", {}, true).find("is empty"),
            std::string::npos);
}

TEST_F(ChatTemplateTest, KnowsWhichVariablesItReads) {
  Write("chat_template.jinja", "{{ enable_thinking }}{{ bos_token }}{{ messages }}");
  const auto chat = ChatTemplate::Load(dir_, {});
  ASSERT_TRUE(chat);
  EXPECT_TRUE((*chat)->Reads("enable_thinking"));
  EXPECT_FALSE((*chat)->Reads("other"));
  EXPECT_FALSE((*chat)->Reads("messages"));
  EXPECT_FALSE((*chat)->Reads("bos_token"));
}

}  // namespace
}  // namespace kvs
