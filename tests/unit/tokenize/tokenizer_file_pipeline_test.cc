#include "tokenize/tokenizer_file_pipeline.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace kvs::internal {
namespace {

using nlohmann::json;

template <class Read>
std::string ErrorOf(const char* text, Read read) {
  const json document = json::parse(text);
  try {
    read(Field(document, "part"));
  } catch (const DataError& error) {
    return error.message;
  }
  return "";
}

void ExpectContains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << text;
}

std::vector<PreTokenizer> PreTokenizersOf(const char* text) {
  const json document = json::parse(text);
  std::vector<PreTokenizer> steps;
  ReadPreTokenizers(Field(document, "part"), steps);
  return steps;
}

TEST(ReadPreTokenizers, FlattensSequences) {
  const auto steps = PreTokenizersOf(R"({"type": "Sequence", "pretokenizers": [
      {"type": "Split", "pattern": {"String": "a.b"}, "behavior": "MergedWithNext", "invert": true},
      {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": false}]},
      {"type": "ByteLevel"}]})");
  ASSERT_EQ(steps.size(), 3u);
  const auto& split = std::get<SplitPreTokenizer>(steps[0]);
  EXPECT_EQ(split.regex, "a\\.b");
  EXPECT_EQ(split.behavior, SplitBehavior::kMergedWithNext);
  EXPECT_TRUE(split.invert);
  EXPECT_EQ(std::get<SplitPreTokenizer>(steps[1]).behavior, SplitBehavior::kContiguous);
  EXPECT_TRUE(std::get<ByteLevelPreTokenizer>(steps[2]).use_regex);
}

TEST(ReadPreTokenizers, RefusesByName) {
  const auto error = [](const char* text) {
    return ErrorOf(text, [](const Field& field) {
      std::vector<PreTokenizer> steps;
      ReadPreTokenizers(field, steps);
    });
  };
  ExpectContains(error(R"({"type": "BertPreTokenizer"})"), "part.type: 'BertPreTokenizer'");
  ExpectContains(error(R"({"type": 1})"), "part.type: expected a string, got 1");
  ExpectContains(error(R"({})"), "'type' is missing");
  ExpectContains(error(R"({"type": "Split", "pattern": {"Regex": ""}, "behavior": "Removed"})"),
                 "must not be empty");
  ExpectContains(error(R"({"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Kept"})"),
                 "got 'Kept'");
  ExpectContains(error(R"({"type": "Split", "pattern": "a", "behavior": "Removed"})"),
                 "part.pattern: expected an object");
  ExpectContains(error(R"({"type": "Metaspace", "replacement": "ab"})"), "must be one character");
  ExpectContains(
      error(R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "sometimes"})"),
      "got 'sometimes'");
  ExpectContains(error(R"({"type": "ByteLevel", "surprise": true})"), "'surprise'");
  ExpectContains(error(R"({"type": "Sequence", "pretokenizers": [{"type": "X"}]})"),
                 "part.pretokenizers[0].type");
}

TEST(ReadNormalizers, RefusesByName) {
  const auto error = [](const char* text) {
    return ErrorOf(text, [](const Field& field) {
      std::vector<Normalizer> steps;
      ReadNormalizers(field, steps);
    });
  };
  EXPECT_EQ(error(R"({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "NFKD"},
      {"type": "Prepend", "prepend": "_"},
      {"type": "Replace", "pattern": {"String": " "}, "content": "_"}]})"),
            "");
  ExpectContains(error(R"({"type": "Lowercase"})"), "'Lowercase' is not supported");
  ExpectContains(error(R"({"type": "Replace", "pattern": {"Regex": "a"}, "content": ""})"),
                 "'Regex' is not supported");
  ExpectContains(error(R"({"type": "Replace", "pattern": {"String": ""}, "content": ""})"),
                 "must not be empty");
}

TEST(ReadPostProcessor, TemplatesNestInSequences) {
  const json document = json::parse(R"({"type": "Sequence", "processors": [
      {"type": "ByteLevel", "trim_offsets": false},
      {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "b", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "e", "type_id": 0}}],
        "pair": [], "special_tokens": {"b": {"ids": [1, 2]}, "e": {"ids": [3]}}}]})");
  PostProcessor post_processor;
  ReadPostProcessor(Field(document, "part"), 10, post_processor);
  EXPECT_EQ(post_processor.prefix, (std::vector<TokenId>{TokenId{1}, TokenId{2}}));
  EXPECT_EQ(post_processor.suffix, std::vector<TokenId>{TokenId{3}});
}

TEST(ReadPostProcessor, RefusesByName) {
  const auto error = [](const char* text) {
    return ErrorOf(text, [](const Field& field) {
      PostProcessor post_processor;
      ReadPostProcessor(field, 10, post_processor);
    });
  };
  ExpectContains(error(R"({"type": "BertProcessing"})"), "'BertProcessing'");
  ExpectContains(error(R"({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "B"}}]})"),
                 "expected Sequence A once");
}

TEST(ReadDecoder, KnowsTheUsualForms) {
  const auto read = [](const char* text) {
    const json document = json::parse(text);
    return ReadDecoder(Field(document, "part"));
  };
  EXPECT_TRUE(read(R"({"type": "ByteLevel"})").byte_level);
  const Decoder llama = read(R"({"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "_"}, "content": " "}, {"type": "ByteFallback"},
      {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})");
  EXPECT_EQ(llama.replaced, "_");
  EXPECT_TRUE(llama.byte_fallback);
  EXPECT_TRUE(llama.strip_leading_space);
  EXPECT_FALSE(llama.byte_level);
  EXPECT_TRUE(read(R"({"type": "Metaspace", "replacement": "_"})").strip_leading_space);
}

TEST(ReadDecoder, RefusesByName) {
  const auto error = [](const char* text) {
    return ErrorOf(text, [](const Field& field) { ReadDecoder(field); });
  };
  ExpectContains(error(R"({"type": "WordPiece"})"), "'WordPiece'");
  ExpectContains(error(R"({"type": "Strip", "content": " ", "start": 1, "stop": 1})"), "stop");
  ExpectContains(error(R"({"type": "Strip", "content": "x", "start": 1, "stop": 0})"),
                 "only one leading space");
  ExpectContains(error(R"({"type": "Replace", "pattern": {"String": "_"}, "content": "x"})"),
                 "only a space");
}

}  // namespace
}  // namespace kvs::internal
