#include "tokenize/unicode.h"

#include <gtest/gtest.h>

#include <string>

namespace kvs {
namespace {

TEST(Unicode, WhiteSpaceHas25CodePoints) {
  int count = 0;
  for (uint32_t c = 0; c < 0x110000; ++c) count += IsWhiteSpace(c);
  EXPECT_EQ(count, 25);
  EXPECT_FALSE(IsWhiteSpace(0x180E));
  EXPECT_FALSE(IsWhiteSpace(0x200B));
}

TEST(Unicode, WordCharacters) {
  for (const uint32_t c : {0x61, 0x5A, 0x30, 0x5F, 0xE9, 0x301, 0x4E2D, 0x200D, 0x24B6, 0x2167}) {
    EXPECT_TRUE(IsWordCharacter(c)) << c;
  }
  for (const uint32_t c : {0x20, 0x2D, 0x3C, 0xB2, 0x2460, 0x1F600}) {
    EXPECT_FALSE(IsWordCharacter(c)) << c;
  }
}

TEST(Unicode, NormalForms) {
  // U+1E9B U+0323: the example of UAX 15 that differs in all four forms.
  const std::string text = "\u1e9b\u0323";
  EXPECT_EQ(NormalizeUnicode(text, UnicodeForm::kNfc), "\u1e9b\u0323");
  EXPECT_EQ(NormalizeUnicode(text, UnicodeForm::kNfd), "\u017f\u0323\u0307");
  EXPECT_EQ(NormalizeUnicode(text, UnicodeForm::kNfkc), "\u1e69");
  EXPECT_EQ(NormalizeUnicode(text, UnicodeForm::kNfkd), "s\u0323\u0307");
  EXPECT_EQ(NormalizeUnicode("e\u0301", UnicodeForm::kNfc), "\u00e9");
  EXPECT_EQ(NormalizeUnicode("\u212b", UnicodeForm::kNfc), "\u00c5");
  EXPECT_EQ(NormalizeUnicode("\u1112\u1161\u11ab", UnicodeForm::kNfc), "\ud55c");
  EXPECT_EQ(NormalizeUnicode("\u0958", UnicodeForm::kNfc), "\u0915\u093c");  // excluded
  EXPECT_EQ(NormalizeUnicode("\ufdfa", UnicodeForm::kNfkd).size(), 33u);     // 18 characters
  EXPECT_EQ(NormalizeUnicode("plain\r\n", UnicodeForm::kNfc), "plain\r\n");
  EXPECT_EQ(NormalizeUnicode(std::string("\u00e9\0x", 4), UnicodeForm::kNfc),
            std::string("\u00e9\0x", 4));
}

TEST(Unicode, MarksAreOrderedStably) {
  // Class 230 before class 220 is swapped, equal classes stay.
  EXPECT_EQ(NormalizeUnicode("x\u0301\u0316\u0300", UnicodeForm::kNfd), "x\u0316\u0301\u0300");
}

}  // namespace
}  // namespace kvs
