#include "tokenize/tokenizer.h"

#include <gtest/gtest.h>

#include <malloc.h>
#include <time.h>

#include <algorithm>
#include <climits>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

namespace kvs {
namespace {

const std::filesystem::path kModel = KVS_SOURCE_DIR "/models/default";
const std::filesystem::path kFixtures = KVS_SOURCE_DIR "/tests/unit/tokenize/fixtures";

std::unique_ptr<Tokenizer> LoadOrDie(const std::filesystem::path& dir) {
  Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Load(dir);
  if (!tokenizer) {
    ADD_FAILURE() << tokenizer.error().message();
    std::abort();
  }
  return *std::move(tokenizer);
}

const Tokenizer& Bundled() {
  static const std::unique_ptr<Tokenizer> tokenizer = LoadOrDie(kModel);
  return *tokenizer;
}

constexpr EncodeOptions kPlain{SpecialTokens::kParse, false};
constexpr EncodeOptions kPlainAsText{SpecialTokens::kAsText, false};

// The ids as the fixtures write them: three hexadecimal digits each.
std::string Hex(const std::vector<TokenId>& tokens) {
  std::string hex;
  for (const TokenId token : tokens) {
    for (const int shift : {8, 4, 0}) hex += "0123456789abcdef"[token.value >> shift & 15];
  }
  return hex;
}

std::vector<uint32_t> Ids(const Tokenizer& tokenizer, std::string_view text,
                          const EncodeOptions& options = {}) {
  const auto tokens = tokenizer.Encode(text, options);
  EXPECT_TRUE(tokens.has_value());
  std::vector<uint32_t> ids;
  for (const TokenId token : *tokens) ids.push_back(token.value);
  return ids;
}

// Every row of a fixture encodes to the ids that the reference library gives; returns the number
// of rows. With `round_trip` the ids also decode to the text.
size_t CheckParity(const Tokenizer& tokenizer, const std::filesystem::path& path, bool round_trip) {
  std::ifstream file(path);
  const nlohmann::json rows = nlohmann::json::parse(file);
  for (const auto& row : rows) {
    const std::string text = row[0];
    const std::string parsed = row[1];
    const std::string as_text = row[2].is_null() ? parsed : row[2].get<std::string>();
    const auto tokens = tokenizer.Encode(text, kPlain);
    EXPECT_TRUE(tokens.has_value());
    EXPECT_EQ(Hex(*tokens), parsed) << row[0];
    const auto text_tokens = tokenizer.Encode(text, kPlainAsText);
    EXPECT_TRUE(text_tokens.has_value());
    EXPECT_EQ(Hex(*text_tokens), as_text) << row[0];
    if (round_trip) {
      EXPECT_EQ(tokenizer.Decode(*tokens, false), text);
      EXPECT_EQ(tokenizer.Decode(*text_tokens, false), text);
    }
  }
  return rows.size();
}

TEST(TokenizerParity, Bundled) {
  EXPECT_GT(CheckParity(Bundled(), kFixtures / "default.json", true), 1300u);
}

class ShapeParity : public testing::TestWithParam<const char*> {};

TEST_P(ShapeParity, EqualsReference) {
  const std::filesystem::path dir = kFixtures / GetParam();
  EXPECT_GT(CheckParity(*LoadOrDie(dir), dir / "parity.json", false), 90u);
}

INSTANTIATE_TEST_SUITE_P(Shapes, ShapeParity,
                         testing::Values("gpt2", "qwen2", "splits", "llama2", "mistral",
                                         "unknown"));

TEST(Tokenizer, PutsTheTemplateAroundTheText) {
  EXPECT_EQ(Ids(Bundled(), ""), (std::vector<uint32_t>{4091}));
  const std::vector<uint32_t> ids = Ids(Bundled(), "hello");
  EXPECT_EQ(ids.front(), 4091u);
  const std::unique_ptr<Tokenizer> llama = LoadOrDie(kFixtures / "llama2");
  EXPECT_EQ(Ids(*llama, ""), (std::vector<uint32_t>{1, 2}));
}

TEST(Tokenizer, SpecialTokensAreParsedOrText) {
  EXPECT_EQ(Ids(Bundled(), "<|eot_id|>", kPlain), (std::vector<uint32_t>{4095}));
  const std::vector<uint32_t> text = Ids(Bundled(), "<|eot_id|>", kPlainAsText);
  EXPECT_EQ(std::count_if(text.begin(), text.end(), [](uint32_t id) { return id >= 4091; }), 0);
  EXPECT_GT(text.size(), 1u);
}

TEST(Tokenizer, SpecialTokensInLiteralRangesAreText) {
  const std::string text = "<|eot_id|>a<|eot_id|><|eot_id|>";
  const auto ids = [&](std::vector<ByteRange> literal) {
    EncodeOptions options = kPlain;
    options.literal = literal;
    const auto tokens = Bundled().Encode(text, options);
    std::vector<bool> special;
    for (const TokenId id : *tokens) special.push_back(id.value == 4095);
    return std::pair(static_cast<size_t>(std::count(special.begin(), special.end(), true)),
                     std::pair(bool{special.front()}, bool{special.back()}));
  };
  using Ends = std::pair<bool, bool>;
  EXPECT_EQ(ids({}), std::pair(size_t{3}, Ends(true, true)));
  EXPECT_EQ(ids({{0, 11}}), std::pair(size_t{2}, Ends(false, true)));
  EXPECT_EQ(ids({{11, 21}}), std::pair(size_t{2}, Ends(true, true)));
  // One byte of the user's is enough.
  EXPECT_EQ(ids({{9, 10}, {30, 31}}), std::pair(size_t{1}, Ends(false, false)));
  EXPECT_EQ(ids({{0, 31}}), std::pair(size_t{0}, Ends(false, false)));
}

TEST(Tokenizer, LiteralRangesChangeNothingElse) {
  const std::string text = "<|begin_of_text|>Once upon a time<|eot_id|> there was";
  EncodeOptions options = kPlain;
  const std::vector<ByteRange> literal = {{17, 33}, {43, text.size()}};
  options.literal = literal;
  EXPECT_EQ(*Bundled().Encode(text, options), *Bundled().Encode(text, kPlain));
}

TEST(Tokenizer, DescribesTokens) {
  const Tokenizer& tokenizer = Bundled();
  EXPECT_EQ(tokenizer.vocab_size(), 4096u);
  const TokenId the = tokenizer.Encode(" the", kPlain)->at(0);
  EXPECT_EQ(tokenizer.TokenBytes(the), " the");
  EXPECT_EQ(tokenizer.TokenText(the), "\u0120the");
  EXPECT_FALSE(tokenizer.IsSpecial(the));
  EXPECT_TRUE(tokenizer.IsSpecial(TokenId{4095}));
  EXPECT_EQ(tokenizer.TokenBytes(TokenId{4095}), "<|eot_id|>");
  for (const uint32_t id : {4096u, UINT32_MAX}) {
    EXPECT_EQ(tokenizer.TokenBytes(TokenId{id}), "");
    EXPECT_EQ(tokenizer.TokenText(TokenId{id}), "");
    EXPECT_FALSE(tokenizer.IsSpecial(TokenId{id}));
  }
}

TEST(Tokenizer, DecodeSkipsSpecialTokensOnDemand) {
  const std::vector<TokenId> tokens = *Bundled().Encode("a<|eot_id|>b");
  EXPECT_EQ(Bundled().Decode(tokens, true), "ab");
  EXPECT_EQ(Bundled().Decode(tokens, false), "<|begin_of_text|>a<|eot_id|>b");
}

TEST(Tokenizer, DecodeReplacesBrokenCharacters) {
  std::vector<TokenId> tokens = *Bundled().Encode("\U0001F600", kPlain);
  ASSERT_GT(tokens.size(), 1u);
  tokens.pop_back();
  EXPECT_EQ(Bundled().Decode(tokens, false), "\uFFFD");
}

TEST(Tokenizer, TextVocabulariesRoundTrip) {
  const std::unique_ptr<Tokenizer> llama = LoadOrDie(kFixtures / "llama2");
  const std::unique_ptr<Tokenizer> mistral = LoadOrDie(kFixtures / "mistral");
  for (const std::string text : {"hello world", "\U0001F44D \u4e2d\n\tx  y ", "", "x"}) {
    EXPECT_EQ(llama->Decode(*llama->Encode(text), true), text);
    EXPECT_EQ(mistral->Decode(*mistral->Encode(text), true), text);
  }
  EXPECT_EQ(llama->Decode(*llama->Encode("  two"), true), "  two");
}

TEST(Tokenizer, RefusesWhatIsNotUtf8) {
  const struct {
    std::string text;
    const char* offset;
  } cases[] = {{"abc\xFF", "byte 3"},
               {"\xC3", "byte 0"},
               {"\xE4\xB8", "byte 0"},
               {"a\xED\xA0\x80", "byte 1"},
               {"<|eot_id|>\xC0\x80", "byte 10"}};
  for (const auto& c : cases) {
    const auto tokens = Bundled().Encode(c.text);
    ASSERT_FALSE(tokens.has_value());
    EXPECT_EQ(tokens.error().code(), Code::kInvalidArgument);
    EXPECT_NE(tokens.error().message().find(c.offset), std::string::npos)
        << tokens.error().message();
  }
  EXPECT_EQ(Ids(Bundled(), std::string("a\0b", 3), kPlain).size(), 3u);  // NUL is a character
}

TEST(Tokenizer, EncodeIsThreadSafe) {
  const std::string text = "Some words, 123 numbers <|eot_id|> and \U0001F600 \u4e2d\u6587.";
  const std::vector<uint32_t> expected = Ids(Bundled(), text);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) EXPECT_EQ(Ids(Bundled(), text), expected);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

std::string Repeat(const std::string& unit, size_t num_bytes) {
  std::string text;
  while (text.size() < num_bytes) text += unit;
  return text;
}

// Processor time of this thread: what else the machine does counts little.
double ThreadSeconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double SecondsToEncode(const Tokenizer& tokenizer, const std::string& text) {
  const double begin = ThreadSeconds();
  EXPECT_TRUE(tokenizer.Encode(text).has_value());
  return ThreadSeconds() - begin;
}

// At most 7 times the time for four times the text; a quadratic step makes the factor 16. Both
// texts are too long for the caches, and the best of several runs counts, since other work may
// disturb some, also by taking part of a cache.
void ExpectLinear(const Tokenizer& tokenizer, const std::string& unit) {
  // Freed memory stays with the process: the kernel's work on fresh pages is not what is measured.
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, INT_MAX);
  const std::string small = Repeat(unit, 1'000'000);
  const std::string large = Repeat(unit, 4'000'000);
  double small_best = 1e9;
  double large_best = 1e9;
  for (int run = 0; run < 10; ++run) {
    small_best = std::min(small_best, SecondsToEncode(tokenizer, small));
    large_best = std::min(large_best, SecondsToEncode(tokenizer, large));
    if (large_best <= 7 * small_best) return;
  }
  ADD_FAILURE() << "four times the text takes " << large_best / small_best << " times as long for '"
                << unit << "'";
}

TEST(TokenizerComplexity, LinearOnTheBundledTokenizer) {
  for (const char* unit : {"a", " ", "a ", " \n", "<|", "<|eot_id|>", "' ", "\u0301", "1"}) {
    ExpectLinear(Bundled(), unit);
  }
}

TEST(TokenizerComplexity, LinearWhereAPieceIsLongOrNormalized) {
  ExpectLinear(*LoadOrDie(kFixtures / "llama2"), "the ");         // one piece: no pre-tokenizer
  ExpectLinear(*LoadOrDie(kFixtures / "qwen2"), "\u0301\u0316");  // marks out of order
  ExpectLinear(*LoadOrDie(kFixtures / "gpt2"), " <mask");
}

}  // namespace
}  // namespace kvs
