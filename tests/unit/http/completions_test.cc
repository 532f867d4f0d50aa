#include "http/completions.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fake_engine.h"
#include "fake_tokenizer.h"
#include "http/openai_format.h"

namespace kvs {
namespace {

using nlohmann::json;
using testing::FakeEngine;
using testing::FakeTokenizer;

class Completions : public ::testing::Test {
 protected:
  HttpResponse Answer(const std::string& body) {
    const std::vector<std::string> names = {"tiny"};
    auto call = ParseCompletion(
        body, {tokenizer_, engine_.info(), names, "", "r", {}, [] { return uint64_t{1}; }});
    EXPECT_TRUE(call) << call.error().message;
    auto format = std::make_unique<CompletionFormat>(AnswerHead{"cmpl-r", "tiny", "f", 1},
                                                     call->include_usage || call->continuous_usage,
                                                     tokenizer_);
    return AnswerCompletion(*std::move(call), std::move(format), tokenizer_, engine_, request_);
  }
  json Whole(const std::string& body) {
    const HttpResponse response = Answer(body);
    EXPECT_EQ(response.status, 200) << response.body;
    return json::parse(response.body);
  }
  // The chunks of a stream; a last "[DONE]" is checked and left out.
  std::vector<json> Chunks(const std::string& body, bool done = true) {
    const HttpResponse response = Answer(body);
    EXPECT_NE(response.stream, nullptr);
    std::string rest;
    while (!response.stream->Advance(rest)) {
      response.stream->signal().WaitFor(std::chrono::milliseconds(100));
    }
    std::vector<json> chunks;
    for (size_t end = rest.find("\n\n"); end != std::string::npos; end = rest.find("\n\n")) {
      const std::string event = rest.substr(0, end);
      rest.erase(0, end + 2);
      EXPECT_EQ(event.substr(0, 6), "data: ");
      if (event == "data: [DONE]") {
        EXPECT_TRUE(done && rest.empty());
        return chunks;
      }
      chunks.push_back(json::parse(event.substr(6)));
    }
    EXPECT_FALSE(done) << "no [DONE]";
    return chunks;
  }
  static std::string TextOf(const std::vector<json>& chunks, int index = 0) {
    std::string text;
    for (const json& chunk : chunks) {
      for (const json& choice : chunk["choices"]) {
        if (choice["index"] == index) text += choice["text"].get<std::string>();
      }
    }
    return text;
  }

  FakeTokenizer tokenizer_;
  FakeEngine engine_;
  HttpRequest request_;
};

TEST_F(Completions, WholeAnswerStopsAtEos) {
  const json answer = Whole(R"({"prompt":"abc","max_tokens":50})");
  const json& choice = answer["choices"][0];
  EXPECT_EQ(choice["text"], "Hello, world");
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_TRUE(choice["stop_reason"].is_null());
  EXPECT_TRUE(choice["logprobs"].is_null());
  EXPECT_EQ(answer["usage"]["prompt_tokens"], 4);
  EXPECT_EQ(answer["usage"]["completion_tokens"], 13);  // the eos is a token, not text
  EXPECT_EQ(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 3);
}

TEST_F(Completions, LengthAndStopToken) {
  EXPECT_EQ(Whole(R"({"prompt":"a","max_tokens":5})")["choices"][0]["finish_reason"], "length");
  const json stopped = Whole(R"({"prompt":"a","max_tokens":50,"stop_token_ids":[44]})");
  EXPECT_EQ(stopped["choices"][0]["text"], "Hello");
  EXPECT_EQ(stopped["choices"][0]["stop_reason"], 44);
}

TEST_F(Completions, StopStringEndsTheTextAndCancelsTheRequest) {
  engine_.endless = true;
  const json answer = Whole(R"({"prompt":"a","max_tokens":200,"stop":["zzz","o, w"]})");
  EXPECT_EQ(answer["choices"][0]["text"], "Hell");
  EXPECT_EQ(answer["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(answer["choices"][0]["stop_reason"], "o, w");
  EXPECT_EQ(answer["usage"]["completion_tokens"], 8);
  while (engine_.num_live() > 0) std::this_thread::yield();
  EXPECT_EQ(engine_.num_cancelled(), 1);
}

TEST_F(Completions, StreamJoinsToTheSameText) {
  const auto chunks = Chunks(R"({"prompt":"a","max_tokens":50,"stream":true})");
  EXPECT_EQ(TextOf(chunks), "Hello, world");
  EXPECT_EQ(chunks.size(), 13u) << "one event per token";
  EXPECT_EQ(chunks.back()["choices"][0]["finish_reason"], "stop");
  for (size_t i = 0; i + 1 < chunks.size(); ++i) {
    EXPECT_TRUE(chunks[i]["choices"][0]["finish_reason"].is_null());
    EXPECT_FALSE(chunks[i].contains("usage"));
  }
}

TEST_F(Completions, StreamHoldsBackWhatMayBecomeAStopString) {
  engine_.endless = true;
  const auto chunks = Chunks(R"({"prompt":"a","max_tokens":200,"stream":true,"stop":"lo, world"})");
  EXPECT_EQ(TextOf(chunks), "Hel");
  EXPECT_EQ(chunks.back()["choices"][0]["stop_reason"], "lo, world");
}

TEST_F(Completions, StreamNeverCutsACharacter) {
  engine_.answer = "\u20ac\U0001F600!";
  const auto chunks = Chunks(R"({"prompt":"a","max_tokens":50,"stream":true})");
  EXPECT_EQ(TextOf(chunks), engine_.answer);
  for (const json& chunk : chunks) {
    const auto text = chunk["choices"][0]["text"].get<std::string>();
    EXPECT_TRUE(text == "" || text == "\u20ac" || text == "\U0001F600" || text == "!") << text;
  }
}

TEST_F(Completions, StreamUsage) {
  const auto last = Chunks(
      R"({"prompt":"abc","max_tokens":4,"stream":true,"stream_options":{"include_usage":true}})");
  ASSERT_EQ(last.size(), 5u);
  EXPECT_TRUE(last[0]["usage"].is_null());
  EXPECT_EQ(last[4]["choices"].size(), 0u);
  EXPECT_EQ(last[4]["usage"]["completion_tokens"], 4);
  EXPECT_EQ(last[4]["usage"]["prompt_tokens_details"]["cached_tokens"], 3);
  const auto each = Chunks(R"({"prompt":"abc","max_tokens":4,"stream":true,
                              "stream_options":{"continuous_usage_stats":true}})");
  for (size_t i = 0; i < each.size(); ++i) {
    EXPECT_EQ(each[i]["usage"]["completion_tokens"], i + 1);
  }
}

TEST_F(Completions, ChoicesOfSeveralPromptsAreNumbered) {
  const json answer = Whole(R"({"prompt":["a","b"],"n":2,"max_tokens":3})");
  ASSERT_EQ(answer["choices"].size(), 4u);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(answer["choices"][i]["index"], i);
  EXPECT_EQ(answer["usage"]["prompt_tokens"], 4);  // each prompt once
  EXPECT_EQ(answer["usage"]["completion_tokens"], 12);
  EXPECT_EQ(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 6);
  const auto chunks = Chunks(R"({"prompt":["a","b"],"n":2,"max_tokens":3,"stream":true})");
  for (int i = 0; i < 4; ++i) EXPECT_EQ(TextOf(chunks, i), "Hel");
}

TEST_F(Completions, EchoPutsThePromptInFront) {
  EXPECT_EQ(Whole(R"({"prompt":"ab","max_tokens":2,"echo":true})")["choices"][0]["text"], "abHe");
  const auto chunks = Chunks(R"({"prompt":"ab","max_tokens":2,"echo":true,"stream":true})");
  EXPECT_EQ(TextOf(chunks), "abHe");
}

TEST_F(Completions, Logprobs) {
  const json logprobs =
      Whole(R"({"prompt":"ab","max_tokens":2,"logprobs":2})")["choices"][0]["logprobs"];
  EXPECT_EQ(logprobs["tokens"], json::parse(R"(["H","e"])"));
  EXPECT_EQ(logprobs["token_logprobs"], json::parse("[-0.5,-0.5]"));
  EXPECT_EQ(logprobs["top_logprobs"][1], json::parse(R"({"e":-0.5,"z":-2.0})"));
  EXPECT_EQ(logprobs["text_offset"], json::parse("[0,1]"));
}

TEST_F(Completions, EchoWithLogprobsCoversThePrompt) {
  const json logprobs =
      Whole(R"({"prompt":"é","max_tokens":1,"logprobs":1,"echo":true})")["choices"][0]["logprobs"];
  EXPECT_EQ(logprobs["tokens"], json::parse(R"(["<bos>","bytes:\\xc3","bytes:\\xa9","H"])"));
  EXPECT_TRUE(logprobs["token_logprobs"][0].is_null());
  EXPECT_TRUE(logprobs["top_logprobs"][0].is_null());
  EXPECT_EQ(logprobs["text_offset"], json::parse("[0,0,0,1]"));
}

TEST_F(Completions, EchoOfOneTokenHasNoProbabilities) {
  const json logprobs =
      Whole(R"({"prompt":[97],"max_tokens":1,"logprobs":1,"echo":true})")["choices"][0]["logprobs"];
  EXPECT_EQ(logprobs["tokens"], json::parse(R"(["a","H"])"));
  EXPECT_TRUE(logprobs["token_logprobs"][0].is_null());
}

TEST_F(Completions, EchoWithoutGeneration) {
  const json answer = Whole(R"({"prompt":"ab","max_tokens":0,"echo":true,"logprobs":0})");
  EXPECT_EQ(answer["choices"][0]["text"], "ab");
  EXPECT_EQ(answer["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(answer["choices"][0]["logprobs"]["tokens"].size(), 3u);
  EXPECT_EQ(answer["usage"]["completion_tokens"], 0);
}

TEST_F(Completions, StreamedLogprobsComeWithTheirTokens) {
  const auto chunks = Chunks(R"({"prompt":"ab","max_tokens":2,"logprobs":1,"stream":true})");
  EXPECT_EQ(chunks[1]["choices"][0]["logprobs"]["tokens"], json::parse(R"(["e"])"));
  EXPECT_EQ(chunks[1]["choices"][0]["logprobs"]["text_offset"], json::parse("[1]"));
}

TEST_F(Completions, FullEngineIs503BeforeAnyStream) {
  engine_.full = true;
  const HttpResponse response = Answer(R"({"prompt":"a","stream":true})");
  EXPECT_EQ(response.status, 503);
  EXPECT_EQ(response.stream, nullptr);
  EXPECT_EQ(json::parse(response.body)["error"]["type"], "overloaded_error");
  const std::pair<std::string, std::string> retry("Retry-After", "1");
  EXPECT_NE(std::find(response.headers.begin(), response.headers.end(), retry),
            response.headers.end());
}

TEST_F(Completions, FailureIs500OrAnErrorEvent) {
  engine_.fails = true;
  const HttpResponse whole = Answer(R"({"prompt":"a"})");
  EXPECT_EQ(whole.status, 500);
  EXPECT_EQ(json::parse(whole.body)["error"]["message"], "logits are not finite");
  const auto chunks = Chunks(R"({"prompt":"a","stream":true})", /*done=*/false);
  EXPECT_EQ(chunks.back()["error"]["message"], "logits are not finite");
}

TEST_F(Completions, ClientThatLeftCancelsWholeAnswer) {
  engine_.silent = true;
  request_.client_gone = [] { return true; };
  EXPECT_EQ(Answer(R"({"prompt":["a","b"]})").status, 499);
  while (engine_.num_live() > 0) std::this_thread::yield();
  EXPECT_EQ(engine_.num_cancelled(), 2);
}

TEST_F(Completions, ClientThatLeftCancelsStream) {
  engine_.endless = true;
  const HttpResponse response = Answer(R"({"prompt":["a","b"],"stream":true,"max_tokens":200})");
  std::string out;
  EXPECT_FALSE(response.stream->Advance(out));
  response.stream->Abandon();
  while (engine_.num_live() > 0) std::this_thread::yield();
  EXPECT_EQ(engine_.num_cancelled(), 2);
}

TEST_F(Completions, ShutdownEndsWithAbort) {
  engine_.silent = true;
  engine_.AbortAll();
  EXPECT_EQ(Whole(R"({"prompt":"a"})")["choices"][0]["finish_reason"], "abort");
}

}  // namespace
}  // namespace kvs
