#include "tokenize/utf8.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace kvs {
namespace {

std::string DecodeWhole(std::string_view bytes) {
  Utf8Decoder decoder;
  std::string out;
  decoder.Append(bytes, out);
  decoder.Flush(out);
  return out;
}

TEST(Utf8, EveryCodePointRoundTrips) {
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    AppendUtf8(c, text);
    ASSERT_EQ(FindInvalidUtf8(text), std::nullopt) << c;
    ASSERT_EQ(CodePointAt(text, 0).value, c);
    ASSERT_EQ(CodePointAt(text, 0).num_bytes, text.size());
    ASSERT_EQ(CodePointBefore(text, text.size()).value, c);
    ASSERT_EQ(DecodeWhole(text), text);
  }
}

TEST(Utf8, FindsTheFirstInvalidByte) {
  const struct {
    std::string text;
    size_t offset;
  } cases[] = {
      {"\x80", 0},
      {"ab\xC0\x80", 2},
      {"\xC1\xBF", 0},
      {"\xE0\x9F\xBF", 0},
      {"\xED\xA0\x80", 0},
      {"\xF0\x8F\xBF\xBF", 0},
      {"\xF4\x90\x80\x80", 0},
      {"\xF5\x80\x80\x80", 0},
      {"\xFF", 0},
      {"\u00e9\xE4\xB8", 2},
      {"12345678\xFE", 8},
      {"1234567\xC3(", 7},
  };
  for (const auto& c : cases) EXPECT_EQ(FindInvalidUtf8(c.text), c.offset) << c.text;
  EXPECT_EQ(FindInvalidUtf8(""), std::nullopt);
  EXPECT_EQ(FindInvalidUtf8(std::string(1000, 'a') + "\U0001F600"), std::nullopt);
}

// The examples of the Unicode standard: one U+FFFD for each maximal part.
TEST(Utf8Decoder, ReplacesMaximalParts) {
  const std::string r = "\uFFFD";
  EXPECT_EQ(DecodeWhole("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"),
            r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(DecodeWhole("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"),
            r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(DecodeWhole("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"),
            r + r + r + r + r + "A" + r + r + "B");
  EXPECT_EQ(DecodeWhole("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), r + r + r + r + "A");
}

TEST(Utf8Decoder, HoldsAnIncompleteCharacterBack) {
  const std::string text = "\U0001F600";
  Utf8Decoder decoder;
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    EXPECT_EQ(out, "");
    EXPECT_EQ(decoder.num_chars(), 0u);
    decoder.Append(text.substr(i, 1), out);
  }
  EXPECT_EQ(out, text);
  EXPECT_EQ(decoder.num_chars(), 1u);
  decoder.Flush(out);
  EXPECT_EQ(out, text);
}

TEST(Utf8Decoder, CutsDoNotMatter) {
  std::mt19937 random(1);
  const std::string alphabet = "a\x80\xBF\xC2\xC3\xE0\xE2\xED\xA0\x9F\xF0\x90\x8F\xF4\xF5\xFF";
  for (int round = 0; round < 20000; ++round) {
    std::string bytes;
    const size_t length = random() % 12;
    for (size_t i = 0; i < length; ++i) {
      bytes += random() % 4 == 0 ? static_cast<char>(random() % 256)
                                 : alphabet[random() % alphabet.size()];
    }
    const std::string whole = DecodeWhole(bytes);
    EXPECT_EQ(FindInvalidUtf8(whole), std::nullopt);
    if (!FindInvalidUtf8(bytes)) {
      EXPECT_EQ(whole, bytes);
    }
    Utf8Decoder decoder;
    std::string out;
    for (size_t i = 0; i < bytes.size();) {
      const size_t cut = 1 + random() % 3;
      decoder.Append(std::string_view(bytes).substr(i, cut), out);
      EXPECT_EQ(FindInvalidUtf8(out), std::nullopt);
      i += cut;
    }
    decoder.Flush(out);
    ASSERT_EQ(out, whole);
    size_t num_chars = 0;
    for (const char c : out) num_chars += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    ASSERT_EQ(decoder.num_chars(), num_chars);
  }
}

}  // namespace
}  // namespace kvs
