#include "http/answer_reader.h"

#include <gtest/gtest.h>

#include <string>

namespace kvs {
namespace {

// Everything in one line: reasoning in (), content as it is, calls in [].
std::string Shown(const AnswerParts& parts) {
  std::string shown;
  if (!parts.reasoning.empty()) shown += "(" + parts.reasoning + ")";
  shown += parts.content;
  for (const ToolCallText& call : parts.tool_calls) shown += "[" + call.name + call.arguments + "]";
  return shown;
}

// Read in one piece, and in pieces of every size: the parts joined must be the same.
std::string Read(const AnswerReading& reading, const std::string& text) {
  std::string whole;
  for (size_t size = text.size() + 1; size > 0; --size) {
    AnswerReader reader(reading);
    AnswerParts parts;
    for (size_t at = 0; at < text.size(); at += size) reader.Append(text.substr(at, size), parts);
    reader.Finish(parts);
    if (whole.empty()) whole = Shown(parts);
    EXPECT_EQ(Shown(parts), whole) << "in pieces of " << size << " bytes";
  }
  return whole;
}

AnswerReading Hermes() { return {.tool_calls = ToolCallParser::kHermes}; }
AnswerReading Llama() { return {.tool_calls = ToolCallParser::kLlama3Json}; }
AnswerReading Qwen3() { return {.reasoning = ReasoningParser::kQwen3}; }

TEST(AnswerReader, WithoutParsersTextIsContent) {
  EXPECT_EQ(Read({}, "<think>a</think><tool_call>{}</tool_call>"),
            "<think>a</think><tool_call>{}</tool_call>");
}

TEST(AnswerReader, HermesCalls) {
  EXPECT_EQ(Read(Hermes(),
                 "Let me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"b\": 1, "
                 "\"a\": [2.5, \"x\"]}}\n</tool_call>"),
            "Let me see.\n[f{\"b\": 1, \"a\": [2.5, \"x\"]}]");
  EXPECT_EQ(Read(Hermes(),
                 "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n"
                 "<tool_call>{\"name\":\"g\",\"arguments\":{}}</tool_call> \n"),
            "[f{}][g{}]");
  EXPECT_EQ(Read(Hermes(), "a < b <tool"), "a < b <tool");
  // A call that the length cut off right before its end mark.
  EXPECT_EQ(Read(Hermes(), "<tool_call>{\"name\":\"f\",\"arguments\":{}}"), "[f{}]");
}

TEST(AnswerReader, WhatIsNoCallStaysText) {
  EXPECT_EQ(Read(Hermes(), "<tool_call>not json</tool_call> after"),
            "<tool_call>not json</tool_call> after");
  EXPECT_EQ(Read(Hermes(), "<tool_call>{\"name\": \"f\", \"arg"),
            "<tool_call>{\"name\": \"f\", \"arg");
  EXPECT_EQ(Read(Hermes(), "<tool_call>{\"name\": 1, \"arguments\": {}}</tool_call>"),
            "<tool_call>{\"name\": 1, \"arguments\": {}}</tool_call>");
}

TEST(AnswerReader, LlamaCalls) {
  EXPECT_EQ(Read(Llama(), "{\"name\": \"f\", \"parameters\": {\"q\": \"a \\\"}\\\" b\"}}"),
            "[f{\"q\": \"a \\\"}\\\" b\"}]");
  EXPECT_EQ(Read(Llama(),
                 "<|python_tag|>{\"name\": \"f\", \"parameters\": {}}; "
                 "{\"name\": \"g\", \"arguments\": {\"x\": {}}}"),
            "[f{}][g{\"x\": {}}]");
  EXPECT_EQ(Read(Llama(), "It is {\"name\": \"f\", \"parameters\": {}}"),
            "It is {\"name\": \"f\", \"parameters\": {}}");
  EXPECT_EQ(Read(Llama(), "{\"answer\": 42} is all"), "{\"answer\": 42} is all");
  EXPECT_EQ(Read(Llama(), "{\"name\": \"f\", \"param"), "{\"name\": \"f\", \"param");
}

TEST(AnswerReader, CallsThatThePromptBegan) {
  AnswerReading reading = Hermes();
  reading.begun = "<tool_call>\n{\"name\": \"f\", \"arguments\":";
  EXPECT_EQ(Read(reading, " {\"a\": 1}}\n</tool_call>"), "[f{\"a\": 1}]");
  EXPECT_EQ(Read(reading,
                 " {\"a\": 1}}\n</tool_call>\n<tool_call>{\"name\": \"g\", "
                 "\"arguments\": {}}</tool_call>"),
            "[f{\"a\": 1}][g{}]");
  // Cut off, and no JSON: the text that there is.
  EXPECT_EQ(Read(reading, " {\"a\": \"b"), "[f{\"a\": \"b]");
  EXPECT_EQ(Read(reading, " nothing</tool_call> more"), "more[fnothing]");
  reading.begun = "<tool_call>\n{\"name\": \"";
  EXPECT_EQ(Read(reading, "f\", \"arguments\": {}}</tool_call>"), "[f{}]");
  EXPECT_EQ(Read(reading, "f\\\"x\", \"argum"), "[f\"x]");
  EXPECT_EQ(Read(reading, "f and g"), "<tool_call>\n{\"name\": \"f and g");

  AnswerReading llama = Llama();
  llama.begun = "{\"name\": \"f\", \"parameters\":";
  EXPECT_EQ(Read(llama, " {\"a\": {}}}"), "[f{\"a\": {}}]");
  EXPECT_EQ(Read(llama, " {\"a\": {"), "[f{\"a\": {]");
  EXPECT_EQ(Read(llama, " [1]}"), "[f[1]}]");
  llama.reasoning = ReasoningParser::kDeepseekR1;
  llama.starts_in_reasoning = true;
  EXPECT_EQ(Read(llama, " {}}"), "[f{}]");
}

TEST(AnswerReader, OneCallWhereParallelOnesAreNotWanted) {
  AnswerReading reading = Hermes();
  reading.one_tool_call = true;
  EXPECT_EQ(Read(reading,
                 "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>"
                 "<tool_call>{\"name\":\"g\",\"arguments\":{}}</tool_call>"),
            "[f{}]");
}

TEST(AnswerReader, Reasoning) {
  EXPECT_EQ(Read(Qwen3(), "<think>\nwhy\n</think>\n\nbecause  x"), "(\nwhy\n)because  x");
  EXPECT_EQ(Read(Qwen3(), "no reasons"), "no reasons");
  EXPECT_EQ(Read(Qwen3(), "<think>cut off"), "(cut off)");
  AnswerReading opened = Qwen3();
  opened.starts_in_reasoning = true;
  EXPECT_EQ(Read(opened, "why</think>because"), "(why)because");
  EXPECT_EQ(Read(opened, "<think>why</think>because"), "(why)because");
}

TEST(AnswerReader, ReasoningBeforeCalls) {
  AnswerReading both = Hermes();
  both.reasoning = ReasoningParser::kQwen3;
  EXPECT_EQ(
      Read(both, "<think>use f</think>\n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>"),
      "(use f)[f{}]");
  both.tool_calls = ToolCallParser::kLlama3Json;
  EXPECT_EQ(Read(both, "<think>use f</think>\n{\"name\":\"f\",\"parameters\":{}}"), "(use f)[f{}]");
}

}  // namespace
}  // namespace kvs
