#include "tokenize/tokenizer_file.h"

#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "temp_model.h"
#include "tokenize/byte_level.h"
#include "tokenize/utf8.h"

namespace kvs {
namespace {

using nlohmann::json;

// A valid byte-level file: ids 0 to 255 are the bytes, 256 is "ab", 300 is "<s>".
json Valid() {
  json file = json::parse(R"({
    "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
    "added_tokens": [{"id": 300, "content": "<s>", "single_word": false, "lstrip": false,
                      "rstrip": false, "normalized": false, "special": true}],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                      "use_regex": true},
    "post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                 {"Sequence": {"id": "A", "type_id": 0}}],
      "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [300], "tokens": ["<s>"]}}},
    "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
                "use_regex": true},
    "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
              "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false,
              "vocab": {"ab": 256}, "merges": [["a", "b"]]}})");
  for (uint32_t byte = 0; byte < 256; ++byte) {
    std::string text;
    AppendUtf8(ByteLevelChar(static_cast<uint8_t>(byte)), text);
    file["model"]["vocab"][text] = byte;
  }
  return file;
}

Result<TokenizerSpec> Read(const json& file) {
  const TempModel model(file.dump());
  return ReadTokenizerFile(model.dir());
}

TEST(TokenizerFile, ReadsAValidFile) {
  const Result<TokenizerSpec> spec = Read(Valid());
  ASSERT_TRUE(spec.has_value()) << spec.error().message();
  EXPECT_TRUE(spec->model.byte_level);
  EXPECT_EQ(spec->model.vocab.size(), 257u);
  ASSERT_EQ(spec->model.merges.size(), 1u);
  EXPECT_EQ(spec->model.merges[0].merged, TokenId{256});
  ASSERT_EQ(spec->added_tokens.size(), 1u);
  EXPECT_TRUE(spec->added_tokens[0].special);
  EXPECT_EQ(spec->post_processor.prefix, std::vector<TokenId>{TokenId{300}});
}

TEST(TokenizerFile, ReadsMergesAsStrings) {
  json file = Valid();
  file["model"]["merges"] = {"a b"};
  ASSERT_TRUE(Read(file).has_value());
}

struct BadFile {
  const char* name;
  const char* message;  // a part of the error
  std::function<void(json&)> damage;
};

void PrintTo(const BadFile& bad, std::ostream* out) { *out << bad.name; }

class BadFiles : public testing::TestWithParam<BadFile> {};

TEST_P(BadFiles, AreRefusedByName) {
  json file = Valid();
  GetParam().damage(file);
  const Result<TokenizerSpec> spec = Read(file);
  ASSERT_FALSE(spec.has_value());
  EXPECT_EQ(spec.error().code(), Code::kDataError);
  EXPECT_NE(spec.error().message().find(GetParam().message), std::string::npos)
      << spec.error().message();
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadFiles,
    testing::Values(
        BadFile{"NoModel", "'model' is missing", [](json& f) { f.erase("model"); }},
        BadFile{"ModelType", "tokenizer.model.type: 'Unigram'",
                [](json& f) { f["model"]["type"] = "Unigram"; }},
        BadFile{"UnknownTopKey", "'surprise' is not supported", [](json& f) { f["surprise"] = 1; }},
        BadFile{"UnknownModelKey", "'surprise'", [](json& f) { f["model"]["surprise"] = 1; }},
        BadFile{"Dropout", "model.dropout", [](json& f) { f["model"]["dropout"] = 0.1; }},
        BadFile{"Affix", "end_of_word_suffix",
                [](json& f) { f["model"]["end_of_word_suffix"] = "</w>"; }},
        BadFile{"VocabType", "model.vocab: expected an object",
                [](json& f) { f["model"]["vocab"] = json::array(); }},
        BadFile{"NegativeId", "vocab['ab']: expected an integer in [0, 2097152), got -1",
                [](json& f) { f["model"]["vocab"]["ab"] = -1; }},
        BadFile{"FractionalId", "got 1.5", [](json& f) { f["model"]["vocab"]["ab"] = 1.5; }},
        BadFile{"HugeId", "got 10000000", [](json& f) { f["model"]["vocab"]["ab"] = 10'000'000; }},
        BadFile{"WrappingId", "got 18446744073709551615",
                [](json& f) { f["model"]["vocab"]["ab"] = UINT64_MAX; }},
        BadFile{"DuplicateId", "id 0 is given to", [](json& f) { f["model"]["vocab"]["ab"] = 0; }},
        BadFile{"MissingByte", "no token stands for byte 0x61",
                [](json& f) {
                  f["model"]["vocab"].erase("a");
                  f["model"]["merges"] = json::array();
                }},
        BadFile{"MergeOfMissing", "merge 0: 'zz' is not in the vocabulary",
                [](json& f) { f["model"]["merges"] = json::parse(R"([["zz", "b"]])"); }},
        BadFile{"MergeIntoMissing", "merge 0: 'ba' is not in the vocabulary",
                [](json& f) { f["model"]["merges"] = json::parse(R"([["b", "a"]])"); }},
        BadFile{"MergeOfThree", "model.merges[0]: expected two tokens",
                [](json& f) {
                  f["model"]["merges"] = {{"a", "b", "c"}};
                }},
        BadFile{"MergeOfThreeWords", "model.merges[0]",
                [](json& f) { f["model"]["merges"] = {"a b c"}; }},
        BadFile{"MergeOfNothing", "model.merges[0]",
                [](json& f) { f["model"]["merges"] = {" b"}; }},
        BadFile{"MergesType", "model.merges: expected an array",
                [](json& f) { f["model"]["merges"] = "a b"; }},
        BadFile{"UnknownToken", "unk_token: is not in the vocabulary",
                [](json& f) { f["model"]["unk_token"] = "<unk>"; }},
        BadFile{"AddedIdTaken", "id 0 of '<s>' belongs to another token",
                [](json& f) { f["added_tokens"][0]["id"] = 0; }},
        BadFile{"AddedIdHuge", "added_tokens[0].id: expected an integer",
                [](json& f) { f["added_tokens"][0]["id"] = 4294967295; }},
        BadFile{"AddedIdMissing", "added_tokens[0]: 'id' is missing",
                [](json& f) { f["added_tokens"][0].erase("id"); }},
        BadFile{"AddedEmpty", "content: must not be empty",
                [](json& f) { f["added_tokens"][0]["content"] = ""; }},
        BadFile{"AddedTwice", "'<s>' is listed twice",
                [](json& f) {
                  f["added_tokens"].push_back(f["added_tokens"][0]);
                  f["added_tokens"][1]["id"] = 301;
                }},
        BadFile{"AddedIdTwice", "id 300 of '<t>'",
                [](json& f) {
                  f["added_tokens"].push_back(f["added_tokens"][0]);
                  f["added_tokens"][1]["content"] = "<t>";
                }},
        BadFile{"AddedContradictsVocab", "'ab' has id 300 here and id 256 in the vocabulary",
                [](json& f) { f["added_tokens"][0]["content"] = "ab"; }},
        BadFile{"AddedFlag", "lstrip: expected true or false, got \"yes\"",
                [](json& f) { f["added_tokens"][0]["lstrip"] = "yes"; }},
        BadFile{"AddedType", "added_tokens: expected an array",
                [](json& f) { f["added_tokens"] = "none"; }},
        BadFile{"NoDecoder", "'decoder' is missing", [](json& f) { f["decoder"] = nullptr; }},
        BadFile{"DecoderUnlikePreTokenizer", "must both be ByteLevel or neither",
                [](json& f) {
                  f["decoder"] = {{"type", "Fuse"}};
                }},
        BadFile{"ByteLevelNotLast", "ByteLevel must be the last step",
                [](json& f) {
                  const json digits = {{"type", "Digits"}, {"individual_digits", true}};
                  f["pre_tokenizer"] = {{"type", "Sequence"},
                                        {"pretokenizers", {f["pre_tokenizer"], digits}}};
                }},
        BadFile{"ByteFallbackOfBytes", "byte_fallback needs no ByteLevel",
                [](json& f) { f["model"]["byte_fallback"] = true; }},
        BadFile{"TemplateUnknownToken", "'<t>' is missing",
                [](json& f) { f["post_processor"]["single"][0]["SpecialToken"]["id"] = "<t>"; }},
        BadFile{"TemplateIdOutOfRange", "expected an integer in [0, 301), got 301",
                [](json& f) { f["post_processor"]["special_tokens"]["<s>"]["ids"] = {301}; }},
        BadFile{"TemplateIdOfNothing", "id 299 is no token",
                [](json& f) { f["post_processor"]["special_tokens"]["<s>"]["ids"] = {299}; }},
        BadFile{"TemplateWithoutText", "Sequence A is missing",
                [](json& f) { f["post_processor"]["single"].erase(1); }}),
    [](const auto& test) { return test.param.name; });

struct BadText {
  const char* name;
  const char* message;
  std::string text;
};

TEST(TokenizerFile, RefusesDamagedJson) {
  const std::string deep(100'000, '[');
  const std::string valid = Valid().dump();
  const BadText cases[] = {
      {"Empty", "parse error", ""},
      {"Deep", "nested deeper than 64", deep},
      {"DeepObjects", "nested deeper than 64",
       [] {
         std::string text;
         for (int i = 0; i < 1000; ++i) text += "{\"a\":";
         return text;
       }()},
      {"Truncated", "parse error", valid.substr(0, valid.size() / 2)},
      {"NotUtf8", "parse error", "{\"version\": \"\xFF\"}"},
      {"LoneSurrogate", "parse error", R"({"version": "\ud800"})"},
      {"Array", "expected an object, got an array", "[]"},
      {"Null", "expected an object, got null", "null"},
      {"NotJson", "parse error", "tokenizer"},
  };
  for (const BadText& c : cases) {
    const TempModel model(c.text);
    const Result<TokenizerSpec> spec = ReadTokenizerFile(model.dir());
    ASSERT_FALSE(spec.has_value()) << c.name;
    EXPECT_EQ(spec.error().code(), Code::kDataError);
    EXPECT_NE(spec.error().message().find(c.message), std::string::npos) << spec.error().message();
    EXPECT_NE(spec.error().message().find("tokenizer.json"), std::string::npos);
  }
}

// Any single damaged byte is an error or another valid file, never a crash.
TEST(TokenizerFile, SurvivesDamagedBytes) {
  const std::string valid = Valid().dump();
  const TempModel unchanged(valid);
  ASSERT_TRUE(ReadTokenizerFile(unchanged.dir()).has_value());
  TempModel model(valid);
  uint64_t random = 1;
  int refused = 0;
  for (int round = 0; round < 2000; ++round) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    std::string text = valid;
    text[(random >> 33) % text.size()] = "\"[]{}:,0-9e\\\x80 x"[(random >> 20) % 16];
    model.Write("tokenizer.json", text);
    refused += !ReadTokenizerFile(model.dir()).has_value();
  }
  EXPECT_GT(refused, 1000);
}

TEST(TokenizerFile, NamesTheMissingFile) {
  const Result<TokenizerSpec> spec = ReadTokenizerFile("/nonexistent");
  ASSERT_FALSE(spec.has_value());
  EXPECT_EQ(spec.error().code(), Code::kNotFound);
  EXPECT_NE(spec.error().message().find("/nonexistent/tokenizer.json"), std::string::npos);
}

TEST(TokenizerFile, AddsTheTokensOfTheConfig) {
  TempModel model(Valid().dump());
  model.Write("tokenizer_config.json", R"({"bos_token": "<s>", "added_tokens_decoder": {
      "300": {"content": "<s>", "special": true}, "301": {"content": "<t>", "special": true}}})");
  const Result<TokenizerSpec> spec = ReadTokenizerFile(model.dir());
  ASSERT_TRUE(spec.has_value()) << spec.error().message();
  ASSERT_EQ(spec->added_tokens.size(), 2u);
  EXPECT_EQ(spec->added_tokens[1].content, "<t>");
  EXPECT_EQ(spec->added_tokens[1].id, TokenId{301});
}

TEST(TokenizerFile, RefusesABadConfig) {
  for (const char* decoder :
       {R"({"x": {"content": "<t>"}})", R"({"-1": {"content": "<t>"}})",
        R"({"99999999999": {"content": "<t>"}})", R"({"300": {"content": "<t>"}})",
        R"({"5": {"content": "<t>"}})", R"({"301": {"content": 1}})", R"({"301": 1})", "[1]"}) {
    TempModel model(Valid().dump());
    model.Write("tokenizer_config.json",
                std::string(R"({"added_tokens_decoder": )") + decoder + "}");
    const Result<TokenizerSpec> spec = ReadTokenizerFile(model.dir());
    ASSERT_FALSE(spec.has_value()) << decoder;
    EXPECT_EQ(spec.error().code(), Code::kDataError);
    EXPECT_NE(spec.error().message().find("tokenizer_config.json"), std::string::npos);
  }
}

}  // namespace
}  // namespace kvs
