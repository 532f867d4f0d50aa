#include "http/chat_parse.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "chat_template_of.h"
#include "fake_tokenizer.h"
#include "http/chat_settings.h"

namespace kvs {
namespace {

using testing::FakeTokenizer;

constexpr char kTemplate[] =
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if tools %}T{{ tools | tojson }}{% endif %}"
    "{% if add_generation_prompt %}<assistant>{% if enable_thinking %}<think>\n{% endif %}{% endif "
    "%}";

class ChatParse : public ::testing::Test {
 protected:
  ChatParse() {
    info_.max_model_len = 400;
    info_.vocab_size = 258;
    info_.kv_pool_tokens = 400;
    chat_.chat_template = testing::ChatTemplateOf(kTemplate);
  }

  ParseContext Context() {
    return {tokenizer_, info_, names_, "", "req-1", {}, [this] { return ++seeds_; }, &chat_};
  }
  // `fields` follow the message.
  ApiResult<ChatCall> Parse(const std::string& fields) {
    return ParseChat(R"({"messages":[{"role":"user","content":"hi"}])" + fields + "}", Context());
  }
  ChatCall Good(const std::string& fields) {
    auto call = Parse(fields);
    EXPECT_TRUE(call) << fields << ": " << call.error().message;
    return call ? *std::move(call) : ChatCall();
  }
  std::string PromptOf(const std::string& fields) {
    const ChatCall call = Good(fields);
    if (call.completion.prompts.empty()) return {};
    return tokenizer_.Decode(call.completion.prompts[0].tokens, false);
  }
  std::string ErrorOf(const std::string& fields) {
    const auto call = Parse(fields);
    EXPECT_FALSE(call) << fields;
    return call ? "" : call.error().param + ": " + call.error().message;
  }

  FakeTokenizer tokenizer_;
  EngineInfo info_;
  ChatSettings chat_;
  std::vector<std::string> names_ = {"tiny"};
  uint64_t seeds_ = 0;
};

constexpr char kTools[] = R"(,"tools":[{"type":"function","function":{"name":"f","z":1,"a":2}}])";

TEST_F(ChatParse, RendersThePromptWithoutASecondBos) {
  EXPECT_EQ(PromptOf(""), "<user>hi<assistant>");
  EXPECT_EQ(PromptOf(R"(,"add_special_tokens":true)"), "<bos><user>hi<assistant>");
  EXPECT_EQ(PromptOf(R"(,"add_generation_prompt":false)"), "<user>hi");
  EXPECT_EQ(PromptOf(R"(,"continue_final_message":true)"), "<user>hi");
}

TEST_F(ChatParse, ToolsReachTheTemplateInTheirOrder) {
  EXPECT_EQ(
      PromptOf(std::string(kTools) + R"(,"tool_choice":"none")"),
      R"(<user>hiT[{"type": "function", "function": {"name": "f", "z": 1, "a": 2}}]<assistant>)");
}

TEST_F(ChatParse, AnswersMayFillTheContext) {
  EXPECT_EQ(Good("").completion.requests[0].sampling.max_tokens, 400u - 19);
  EXPECT_EQ(Good(R"(,"max_tokens":5)").completion.requests[0].sampling.max_tokens, 5u);
  const auto both = Good(R"(,"max_tokens":5,"max_completion_tokens":7)");
  EXPECT_EQ(both.completion.requests[0].sampling.max_tokens, 7u);
  EXPECT_EQ(ErrorOf(R"(,"max_completion_tokens":500)"),
            "max_completion_tokens: the maximum context length is 400 tokens: the prompt has 19 "
            "and 'max_completion_tokens' asks for 500 more");
}

TEST_F(ChatParse, LogprobsNeedTheSwitch) {
  EXPECT_EQ(
      Good(R"(,"logprobs":true,"top_logprobs":3)").completion.requests[0].sampling.num_logprobs,
      3u);
  EXPECT_EQ(Good(R"(,"logprobs":true)").completion.requests[0].sampling.num_logprobs, 0u);
  EXPECT_FALSE(Good("").completion.requests[0].sampling.num_logprobs);
  EXPECT_EQ(ErrorOf(R"(,"top_logprobs":3)"),
            "top_logprobs: 'top_logprobs' needs 'logprobs': true, got 3");
}

TEST_F(ChatParse, ToolChoice) {
  EXPECT_NE(ErrorOf(kTools).find("--enable-auto-tool-choice"), std::string::npos);
  EXPECT_FALSE(Good(std::string(kTools) + R"(,"tool_choice":"none")").reading.tool_calls);
  chat_.options.enable_auto_tool_choice = true;
  chat_.options.tool_call_parser = ToolCallParser::kHermes;
  const ChatCall call = Good(kTools);
  EXPECT_EQ(call.reading.tool_calls, ToolCallParser::kHermes);
  EXPECT_FALSE(call.completion.text.skip_special_tokens);
  EXPECT_FALSE(Good("").reading.tool_calls);
  EXPECT_TRUE(Good(std::string(kTools) + R"(,"parallel_tool_calls":false)").reading.one_tool_call);
}

constexpr char kTwoTools[] = R"(,"tools":[{"type":"function","function":{"name":"f"}},)"
                             R"({"type":"function","function":{"name":"g"}}])";
constexpr char kCallF[] = R"(,"tool_choice":{"type":"function","function":{"name":"f"}})";
constexpr char kRequired[] = R"(,"tool_choice":"required")";

std::string EndOf(const std::string& text, size_t size) {
  return text.substr(text.size() - std::min(size, text.size()));
}

TEST_F(ChatParse, ACallThatIsAskedForIsBegunInThePrompt) {
  chat_.options.tool_call_parser = ToolCallParser::kHermes;
  const std::string named = R"(<assistant><tool_call>
{"name": "f", "arguments":)";
  EXPECT_EQ(EndOf(PromptOf(std::string(kTwoTools) + kCallF), named.size()), named);
  EXPECT_EQ(EndOf(PromptOf(std::string(kTools) + kRequired), named.size()), named);
  const std::string any = "<assistant><tool_call>\n{\"name\": \"";
  EXPECT_EQ(EndOf(PromptOf(std::string(kTwoTools) + kRequired), any.size()), any);
  const AnswerReading of_named = Good(std::string(kTwoTools) + kCallF).reading;
  EXPECT_EQ("<assistant>" + of_named.begun, named);
  EXPECT_TRUE(of_named.names_function && of_named.one_tool_call);
  const AnswerReading of_any = Good(std::string(kTwoTools) + kRequired).reading;
  EXPECT_FALSE(of_any.names_function || of_any.one_tool_call);
  chat_.options.tool_call_parser = ToolCallParser::kLlama3Json;
  const std::string llama = R"(<assistant>{"name": "f", "parameters":)";
  EXPECT_EQ(EndOf(PromptOf(std::string(kTools) + kRequired), llama.size()), llama);
}

TEST_F(ChatParse, ACallThatCannotBeForcedIsRefused) {
  EXPECT_NE(ErrorOf(std::string(kTools) + kRequired).find("without --tool-call-parser"),
            std::string::npos);
  chat_.options.tool_call_parser = ToolCallParser::kHermes;
  const auto says = [&](const std::string& fields, const std::string& what) {
    const std::string error = ErrorOf(fields);
    EXPECT_EQ(error.substr(0, 13), "tool_choice: ") << error;
    EXPECT_NE(error.find(what), std::string::npos) << error;
  };
  says(kRequired, "needs 'tools'");
  says(R"(,"tool_choice":"auto")", "needs 'tools'");
  says(R"(,"tools":[{"type":"function","function":{"name":"g"}}])" + std::string(kCallF),
       "names 'f', which is not one of 'tools'");
  says(std::string(kTools) + R"(,"tool_choice":{"type":"allowed_tools"})", "no other is supported");
  says(std::string(kTools) + R"(,"tool_choice":"any")", "no other is supported");
  says(std::string(kTools) + R"(,"continue_final_message":true)" + kRequired, "a turn of its own");
  says(std::string(kTools) + R"(,"add_generation_prompt":false)" + kRequired, "a turn of its own");
  says(std::string(kTools) + R"(,"chat_template_kwargs":{"enable_thinking":true})" + kRequired,
       "begins the answer with reasoning");
}

TEST_F(ChatParse, TemplateVariablesAreThoseItReadsAndScalar) {
  EXPECT_EQ(PromptOf(R"(,"chat_template_kwargs":{"enable_thinking":true})"),
            "<user>hi<assistant><think>\n");
  EXPECT_EQ(ErrorOf(R"(,"chat_template_kwargs":{"tokenize":true})"),
            "chat_template_kwargs.tokenize: 'chat_template_kwargs.tokenize' is not a variable of "
            "this model's chat template");
  EXPECT_NE(ErrorOf(R"(,"chat_template_kwargs":{"messages":"x"})").find("is not a variable"),
            std::string::npos);
  EXPECT_NE(ErrorOf(R"(,"chat_template_kwargs":{"enable_thinking":[1]})").find("must be a number"),
            std::string::npos);
  EXPECT_NE(ErrorOf(R"(,"chat_template":"{{ x }}")").find("not supported"), std::string::npos);
}

TEST_F(ChatParse, ReasoningStartsWhereThePromptOpensIt) {
  chat_.options.reasoning_parser = ReasoningParser::kQwen3;
  EXPECT_FALSE(Good("").reading.starts_in_reasoning);
  EXPECT_TRUE(
      Good(R"(,"chat_template_kwargs":{"enable_thinking":true})").reading.starts_in_reasoning);
  chat_.options.reasoning_parser = ReasoningParser::kDeepseekR1;
  EXPECT_TRUE(Good("").reading.starts_in_reasoning);
}

TEST_F(ChatParse, RefusesWhatItDoesNotDo) {
  EXPECT_EQ(ErrorOf(R"(,"response_format":{"type":"json_object"})").substr(0, 16),
            "response_format:");
  EXPECT_EQ(Good(R"(,"response_format":{"type":"text"})").completion.n, 1u);
  EXPECT_EQ(ErrorOf(R"(,"functions":[{"name":"f"}])"),
            "functions: 'functions' is not supported by this server");
  chat_.chat_template = nullptr;
  chat_.why_no_template = "no template here";
  EXPECT_EQ(ErrorOf(""), ": no template here");
}

TEST_F(ChatParse, TokenizeTakesMessages) {
  const auto call = ParseTokenize(R"({"messages":[{"role":"user","content":"hi"}]})", Context());
  ASSERT_TRUE(call) << call.error().message;
  EXPECT_EQ(tokenizer_.Decode(call->tokens, false), "<user>hi<assistant>");
}

}  // namespace
}  // namespace kvs
