#include "http/openai_parse.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "fake_tokenizer.h"

namespace kvs {
namespace {

using testing::FakeTokenizer;
using testing::kBos;
using testing::TokensOf;

class OpenaiParse : public ::testing::Test {
 protected:
  OpenaiParse() {
    info_.max_model_len = 100;
    info_.vocab_size = 258;
    info_.kv_pool_tokens = 80;
  }
  ParseContext Context() {
    return {tokenizer_, info_, names_, "", "req-1", {}, [this] { return ++seeds_; }};
  }
  ApiResult<CompletionCall> Parse(std::string_view body) {
    return ParseCompletion(body, Context());
  }
  CompletionCall Good(std::string_view body) {
    auto call = Parse(body);
    EXPECT_TRUE(call) << body << ": " << call.error().message;
    return call ? *std::move(call) : CompletionCall();
  }

  FakeTokenizer tokenizer_;
  EngineInfo info_;
  std::vector<std::string> names_ = {"tiny", "also-tiny"};
  uint64_t seeds_ = 0;
};

TEST_F(OpenaiParse, DefaultsAreOpenais) {
  const CompletionCall call = Good(R"({"prompt":"hi"})");
  EXPECT_EQ(call.model, "tiny");
  EXPECT_EQ(call.id, "req-1");
  ASSERT_EQ(call.requests.size(), 1u);
  const Request& request = call.requests[0];
  EXPECT_EQ(request.prompt, (std::vector<TokenId>{kBos, {'h'}, {'i'}}));
  EXPECT_EQ(request.sampling.max_tokens, 16u);
  EXPECT_EQ(request.sampling.temperature, 1.0f);
  EXPECT_EQ(request.sampling.top_k, 0);
  EXPECT_EQ(request.sampling.seed, 1u);
  EXPECT_FALSE(request.sampling.num_logprobs);
  EXPECT_EQ(request.cache_scope, "");
  EXPECT_FALSE(call.stream);
  EXPECT_TRUE(call.text.skip_special_tokens);
}

TEST_F(OpenaiParse, GenerationConfigHoldsUnlessTheRequestSays) {
  info_.generation = {.temperature = 0.5f,
                      .top_p = 0.8f,
                      .min_p = 0.1f,
                      .repetition_penalty = 1.05f,
                      .top_k = 20,
                      .max_new_tokens = 8};
  const SamplingParams silent = Good(R"({"prompt":"hi"})").requests[0].sampling;
  EXPECT_EQ(silent.temperature, 0.5f);
  EXPECT_EQ(silent.top_p, 0.8f);
  EXPECT_EQ(silent.min_p, 0.1f);
  EXPECT_EQ(silent.repetition_penalty, 1.05f);
  EXPECT_EQ(silent.top_k, 20);
  EXPECT_EQ(silent.max_tokens, 8u);
  const SamplingParams said = Good(R"({"prompt":"hi","temperature":0,"top_p":1,"min_p":0,
      "repetition_penalty":1,"top_k":-1,"max_tokens":5})")
                                  .requests[0]
                                  .sampling;
  EXPECT_EQ(said.temperature, 0.0f);
  EXPECT_EQ(said.top_p, 1.0f);
  EXPECT_EQ(said.min_p, 0.0f);
  EXPECT_EQ(said.repetition_penalty, 1.0f);
  EXPECT_EQ(said.top_k, 0);
  EXPECT_EQ(said.max_tokens, 5u);
  info_.generation = GenerationDefaults();
  info_.generation.top_k = -1;  // off, in some files
  EXPECT_EQ(Good(R"({"prompt":"hi"})").requests[0].sampling.top_k, 0);
}

TEST_F(OpenaiParse, TakesAllFourPromptForms) {
  EXPECT_EQ(Good(R"({"prompt":["a","bc"]})").prompts.size(), 2u);
  EXPECT_EQ(Good(R"({"prompt":[104,105.0]})").requests[0].prompt, TokensOf("hi"));
  const CompletionCall lists = Good(R"({"prompt":[[104],[105,106]],"n":2})");
  ASSERT_EQ(lists.requests.size(), 4u);
  EXPECT_EQ(lists.requests[1].prompt, TokensOf("h"));
  EXPECT_EQ(lists.requests[2].prompt, TokensOf("ij"));
}

TEST_F(OpenaiParse, EmptyTextIsBosWhereThereIsOne) {
  EXPECT_EQ(Good(R"({"prompt":""})").requests[0].prompt, (std::vector<TokenId>{kBos}));
  const auto refused = Parse(R"({"prompt":"","add_special_tokens":false})");
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("empty"), std::string::npos);
}

TEST_F(OpenaiParse, ReadsEveryParameter) {
  const CompletionCall call = Good(R"({"model":"also-tiny","prompt":"hi","n":2,"best_of":2,
    "max_tokens":20,"min_tokens":3,"temperature":0.5,"top_k":40,"top_p":0.9,"min_p":0.1,
    "presence_penalty":-1,"frequency_penalty":2,"repetition_penalty":1.5,
    "logit_bias":{"104":-100,"5":1.5},"seed":-1,"stop":["x","yz"],"stop_token_ids":[7],
    "ignore_eos":true,"logprobs":4,"stream":true,
    "stream_options":{"include_usage":true,"continuous_usage_stats":true},"user":"someone",
    "cache_salt":"salt","priority":-3,"skip_special_tokens":false,
    "include_stop_str_in_output":true,"add_special_tokens":false,"request_id":"mine",
    "suffix":null,"never heard of":1})");
  EXPECT_EQ(call.model, "tiny");  // the first name is the one answered with
  EXPECT_EQ(call.id, "mine");
  ASSERT_EQ(call.requests.size(), 2u);
  const SamplingParams& sampling = call.requests[0].sampling;
  EXPECT_EQ(sampling.max_tokens, 20u);
  EXPECT_EQ(sampling.min_tokens, 3u);
  EXPECT_EQ(sampling.temperature, 0.5f);
  EXPECT_EQ(sampling.top_k, 40);
  EXPECT_EQ(sampling.top_p, 0.9f);
  EXPECT_EQ(sampling.min_p, 0.1f);
  EXPECT_EQ(sampling.presence_penalty, -1.0f);
  EXPECT_EQ(sampling.frequency_penalty, 2.0f);
  EXPECT_EQ(sampling.repetition_penalty, 1.5f);
  ASSERT_EQ(sampling.logit_bias.size(), 2u);
  EXPECT_EQ(sampling.logit_bias[0], (std::pair<TokenId, float>(TokenId{5}, 1.5f)));
  EXPECT_EQ(sampling.seed, UINT64_MAX);
  EXPECT_EQ(call.requests[1].sampling.seed, 0u);
  EXPECT_EQ(sampling.stop_token_ids, std::vector<TokenId>{{7}});
  EXPECT_TRUE(sampling.ignore_eos);
  EXPECT_EQ(sampling.num_logprobs, 4u);
  EXPECT_FALSE(sampling.num_prompt_logprobs);
  EXPECT_EQ(call.text.stop_strings, (std::vector<std::string>{"x", "yz"}));
  EXPECT_EQ(call.text.min_tokens, 3u);
  EXPECT_FALSE(call.text.skip_special_tokens);
  EXPECT_TRUE(call.text.include_stop_string);
  EXPECT_TRUE(call.stream && call.include_usage && call.continuous_usage);
  EXPECT_EQ(call.requests[0].priority, -3);
  EXPECT_EQ(call.requests[0].cache_scope, CacheScope("", "salt"));
  EXPECT_EQ(call.requests[0].prompt, TokensOf("hi"));
}

TEST_F(OpenaiParse, EchoWithLogprobsAsksForThePrompts) {
  const CompletionCall call = Good(R"({"prompt":"hi","echo":true,"logprobs":0,"max_tokens":0})");
  EXPECT_EQ(call.requests[0].sampling.num_prompt_logprobs, 0u);
  EXPECT_EQ(call.requests[0].sampling.max_tokens, 0u);
  EXPECT_FALSE(call.generates);
  EXPECT_EQ(call.prompts[0].text, "hi");
  EXPECT_EQ(Good(R"({"prompt":[104,105],"echo":true})").prompts[0].text, "hi");
}

TEST_F(OpenaiParse, EveryPromptGetsTheClientsSeedAndEveryChoiceItsOwn) {
  const CompletionCall call = Good(R"({"prompt":["a","b"],"n":2,"seed":5})");
  EXPECT_EQ(call.requests[0].sampling.seed, 5u);
  EXPECT_EQ(call.requests[1].sampling.seed, 6u);
  EXPECT_EQ(call.requests[2].sampling.seed, 5u);
  const CompletionCall drawn = Good(R"({"prompt":["a","b"]})");
  EXPECT_NE(drawn.requests[0].sampling.seed, drawn.requests[1].sampling.seed);
}

TEST_F(OpenaiParse, AbsentMaxTokensIsCutToWhatIsLeft) {
  const std::string prompt(74, 'a');  // 75 with BOS; the pool holds 80
  EXPECT_EQ(Good(R"({"prompt":")" + prompt + R"("})").requests[0].sampling.max_tokens, 5u);
}

TEST_F(OpenaiParse, TruncatesOnTheLeft) {
  const CompletionCall call = Good(R"({"prompt":"abcdef","truncate_prompt_tokens":2,"echo":true})");
  EXPECT_EQ(call.requests[0].prompt, TokensOf("ef"));
  EXPECT_EQ(call.prompts[0].text, "ef");
}

TEST_F(OpenaiParse, UnknownModelIs404) {
  const auto refused = Parse(R"({"model":"gpt-9","prompt":"x"})");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().status, 404);
  EXPECT_EQ(refused.error().code, "model_not_found");
  EXPECT_NE(refused.error().message.find("'gpt-9'"), std::string::npos);
}

TEST_F(OpenaiParse, ContextLengthHasItsCode) {
  for (const char* body :
       {R"({"prompt":"abc","max_tokens":97})", R"({"prompt":"abc","max_tokens":77})"}) {
    const auto refused = Parse(body);
    ASSERT_FALSE(refused) << body;
    EXPECT_EQ(refused.error().code, "context_length_exceeded");
    EXPECT_EQ(refused.error().param, "max_tokens");
  }
  EXPECT_TRUE(Parse(R"({"prompt":"abc","max_tokens":76})"));
}

TEST(CacheScope, KeepsPartsApart) {
  EXPECT_EQ(CacheScope("", ""), "");
  EXPECT_NE(CacheScope("ab", "c"), CacheScope("a", "bc"));
  EXPECT_NE(CacheScope("ab", ""), CacheScope("", "ab"));
}

struct BadCall {
  std::string body;
  std::string says;
  std::string param;
};

class RefusedCall : public OpenaiParse, public ::testing::WithParamInterface<BadCall> {};

TEST_P(RefusedCall, NamesFieldValueAndBound) {
  const auto refused = Parse(GetParam().body);
  ASSERT_FALSE(refused) << GetParam().body.substr(0, 200);
  EXPECT_EQ(refused.error().status, 400);
  EXPECT_EQ(refused.error().type, "invalid_request_error");
  EXPECT_EQ(refused.error().param, GetParam().param);
  EXPECT_NE(refused.error().message.find(GetParam().says), std::string::npos)
      << refused.error().message;
}

BadCall With(const std::string& field, const std::string& value, const std::string& says) {
  return {R"({"prompt":"abc",")" + field + "\":" + value + "}", says, field};
}

std::string Repeat(const std::string& text, size_t count) {
  std::string repeated;
  for (size_t i = 0; i < count; ++i) repeated += text;
  return repeated;
}

std::string List(const std::string& item, size_t count) {
  return "[" + item + Repeat("," + item, count - 1) + "]";
}

std::string BiasOf(size_t count) {
  std::string object = "{\"0\":1";
  for (size_t i = 1; i < count; ++i) object += ",\"" + std::to_string(i) + "\":1";
  return object + "}";
}

INSTANTIATE_TEST_SUITE_P(
    Bodies, RefusedCall,
    ::testing::Values(BadCall{"", "not valid JSON", ""}, BadCall{"{", "not valid JSON", ""},
                      BadCall{"[]", "not a JSON object", ""},
                      BadCall{"\"x\"", "not a JSON object", ""},
                      BadCall{R"({"prompt":"a"} x)", "not valid JSON", ""},
                      BadCall{R"({"prompt":"a","prompt":"b"})", "\"prompt\" twice", ""},
                      BadCall{R"({"prompt":"a","x":{"y":1,"y":2}})", "\"y\" twice", ""},
                      BadCall{"{\"prompt\":\"\x80\"}", "not valid JSON", ""},
                      BadCall{"{\"prompt\":\"\xed\xa0\x80\"}", "not valid JSON", ""},
                      BadCall{R"({"prompt":"\ud800"})", "not valid JSON", ""},
                      BadCall{R"({"prompt":"\udc00x"})", "not valid JSON", ""},
                      BadCall{"{\"prompt\":\"a\nb\"}", "not valid JSON", ""},
                      BadCall{R"({"prompt":"a","temperature":1e400})", "out of range", ""},
                      BadCall{R"({"prompt":"a","temperature":NaN})", "not valid JSON", ""},
                      BadCall{R"({"prompt":"a","temperature":Infinity})", "not valid JSON", ""},
                      BadCall{R"({"prompt":"a","x":)" + Repeat("[", 100000), "deeper than 64", ""},
                      BadCall{R"({"prompt":"a","x":)" + Repeat("{\"a\":", 100000), "deeper than 64",
                              ""}));

INSTANTIATE_TEST_SUITE_P(
    Prompts, RefusedCall,
    ::testing::Values(
        BadCall{"{}", "'prompt' is missing", "prompt"},
        BadCall{R"({"prompt":null})", "'prompt' is missing", "prompt"},
        BadCall{R"({"prompt":5})", "must be a string", "prompt"},
        BadCall{R"({"prompt":{"a":1}})", "got an object", "prompt"},
        BadCall{R"({"prompt":[]})", "must not be empty", "prompt"},
        BadCall{R"({"prompt":[[]]})", "at least one token", "prompt"},
        BadCall{R"({"prompt":["a",5]})", "must be a string, an array", "prompt"},
        BadCall{R"({"prompt":[5,"a"]})", "has \"a\" where a token id", "prompt"},
        BadCall{R"({"prompt":[[5],"a"]})", "must be a string, an array", "prompt"},
        BadCall{R"({"prompt":[258]})", "has 258 where a token id from 0 to 257", "prompt"},
        BadCall{R"({"prompt":[-1]})", "has -1 where", "prompt"},
        BadCall{R"({"prompt":[1.5]})", "has 1.5 where", "prompt"},
        BadCall{R"({"prompt":[true]})", "must be a string, an array", "prompt"},
        BadCall{R"({"prompt":)" + List("\"a\"", 129) + "}", "at most 128 prompts", "prompt"},
        BadCall{R"({"n":2,"prompt":)" + List("\"a\"", 65) + "}", "at most 64 prompts", "prompt"},
        BadCall{R"({"prompt":)" + List("[1]", 10000) + "}", "at most 128 prompts", "prompt"},
        BadCall{R"({"prompt":")" + Repeat("a", 100) + "\"}",
                "maximum context length is 100 tokens: the prompt has 101", "prompt"},
        BadCall{R"({"prompt":")" + Repeat("a", 79) + "\"}",
                "the KV cache of this server is 80 tokens: the prompt has 80", "prompt"},
        BadCall{R"({"prompt":"abc","max_tokens":97})", "'max_tokens' asks for 97 more",
                "max_tokens"}));

INSTANTIATE_TEST_SUITE_P(
    Numbers, RefusedCall,
    ::testing::Values(
        With("n", "0", "must be an integer from 1 to 128, got 0"), With("n", "129", "got 129"),
        With("n", "1000000000", "got 1000000000"), With("n", "1.5", "got 1.5"),
        With("n", "\"2\"", "got \"2\""), With("n", "true", "got true"),
        With("n", "9223372036854775808", "got 9223372036854775808"), With("n", "1e30", "got 1e+30"),
        With("best_of", "2", "equal to 'n' (1), got 2"),
        With("max_tokens", "0", "must be at least 1"),
        With("max_tokens", "-1", "from 0 to 2147483647, got -1"),
        With("max_tokens", "2147483648", "got 2147483648"),
        With("min_tokens", "17", "from 0 to 16, got 17"), With("min_tokens", "-1", "got -1"),
        With("temperature", "-0.1", "must be a number from 0 to 2, got -0.1"),
        With("temperature", "2.01", "got 2.01"), With("temperature", "1e308", "got 1e+308"),
        With("temperature", "\"1\"", "got \"1\""), With("temperature", "false", "got false"),
        With("top_p", "0", "above 0"), With("top_p", "1.0001", "from 0 to 1"),
        With("top_p", "1e-60", "above 0"), With("top_k", "-2", "from -1 to 2147483647, got -2"),
        With("top_k", "2147483648", "got 2147483648"), With("min_p", "1.5", "from 0 to 1, got 1.5"),
        With("presence_penalty", "-2.5", "from -2 to 2, got -2.5"),
        With("frequency_penalty", "3", "from -2 to 2, got 3"),
        With("repetition_penalty", "0", "above 0"), With("repetition_penalty", "11", "got 11"),
        With("logprobs", "21", "from 0 to 20, got 21"), With("logprobs", "true", "got true"),
        With("logprobs", "1000000", "got 1000000"),
        With("seed", "9223372036854775808", "got 9223372036854775808"),
        With("seed", "0.5", "got 0.5"), With("priority", "2147483648", "got 2147483648"),
        With("truncate_prompt_tokens", "0", "from 1 to 100, got 0")));

INSTANTIATE_TEST_SUITE_P(
    Others, RefusedCall,
    ::testing::Values(
        With("stop", "\"\"", "strings of 1 to 1024 bytes, got \"\""), With("stop", "[1]", "got 1"),
        With("stop", "{}", "got an object"),
        With("stop", List("\"a\"", 17), "at most 16 strings, got an array of 17"),
        With("stop", "\"" + Repeat("a", 1025) + "\"", "1 to 1024 bytes"),
        With("stop_token_ids", "5", "array of at most 1024"),
        With("stop_token_ids", "[258]", "has 258 where a token id from 0 to 257"),
        With("stop_token_ids", List("1", 1025), "array of at most 1024"),
        With("logit_bias", "[]", "must be an object"),
        With("logit_bias", "{\"258\":1}", "key \"258\" where a token id from 0 to 257"),
        With("logit_bias", "{\"-1\":1}", "key \"-1\""), With("logit_bias", "{\"a\":1}", "\"a\""),
        With("logit_bias", "{\"1\":101}", "from -100 to 100, got 101"),
        With("logit_bias", "{\"1\":\"x\"}", "got \"x\""),
        With("logit_bias", "{\"1\":1,\"01\":2}", "names the token 1 twice"),
        With("logit_bias", BiasOf(1025), "at most 1024 entries"),
        With("echo", "1", "must be true or false, got 1"), With("stream", "\"yes\"", "got \"yes\""),
        With("ignore_eos", "0", "true or false"),
        With("skip_special_tokens", "[]", "an array of 0"),
        With("include_stop_str_in_output", "2", "true or false"),
        With("add_special_tokens", "\"\"", "true or false"),
        With("stream_options", "{}", "only with 'stream': true"),
        With("cache_salt", "\"\"", "must not be an empty"), With("cache_salt", "5", "a string"),
        With("cache_salt", "\"" + Repeat("a", 1025) + "\"", "at most 1024 bytes"),
        With("model", "5", "must be a string"), With("suffix", "\"tail\"", "not supported"),
        With("use_beam_search", "true", "not supported"),
        With("guided_json", "{}", "not supported"),
        BadCall{R"({"prompt":"a","stream":true,"stream_options":5})", "must be an object",
                "stream_options"},
        BadCall{R"({"prompt":"a","stream":true,"stream_options":{"include_usage":1}})",
                "must be true or false, got 1", "stream_options.include_usage"}));

TEST_F(OpenaiParse, LongBodiesTakeLinearTime) {
  std::string keys = R"({"prompt":"a")";
  for (int i = 0; i < 100000; ++i) keys += ",\"k" + std::to_string(i) + "\":1";
  EXPECT_TRUE(Parse(keys + "}"));
}

TEST_F(OpenaiParse, Tokenize) {
  const auto call = ParseTokenize(R"({"prompt":"hi","return_token_strs":true})", Context());
  ASSERT_TRUE(call);
  EXPECT_EQ(call->tokens, (std::vector<TokenId>{kBos, {'h'}, {'i'}}));
  EXPECT_TRUE(call->return_token_strs);
  EXPECT_EQ(ParseTokenize(R"({"prompt":"hi","add_special_tokens":false})", Context())->tokens,
            TokensOf("hi"));
  EXPECT_FALSE(ParseTokenize(R"({"prompt":["hi"]})", Context()));
  EXPECT_FALSE(ParseTokenize("{}", Context()));
}

TEST_F(OpenaiParse, Detokenize) {
  EXPECT_EQ(*ParseDetokenize(R"({"tokens":[104,105]})", Context()), TokensOf("hi"));
  EXPECT_TRUE(ParseDetokenize(R"({"tokens":[]})", Context())->empty());
  EXPECT_FALSE(ParseDetokenize(R"({"tokens":[999]})", Context()));
  EXPECT_FALSE(ParseDetokenize("{}", Context()));
}

}  // namespace
}  // namespace kvs
