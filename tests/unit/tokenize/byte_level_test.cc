#include "tokenize/byte_level.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "tokenize/utf8.h"

namespace kvs {
namespace {

TEST(ByteLevel, EveryByteHasItsOwnCharacter) {
  std::set<uint32_t> seen;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const uint32_t c = ByteLevelChar(static_cast<uint8_t>(byte));
    EXPECT_TRUE(seen.insert(c).second);
    std::string text;
    AppendUtf8(c, text);
    EXPECT_EQ(ByteLevelDecode(text), std::string(1, static_cast<char>(byte)));
  }
}

TEST(ByteLevel, KnownSpellings) {
  EXPECT_EQ(ByteLevelDecode("\u0120the"), " the");
  EXPECT_EQ(ByteLevelDecode("\u010a\u0109"), "\n\t");
  EXPECT_EQ(ByteLevelDecode(""), "");
}

TEST(ByteLevel, RefusesCharactersThatStandForNoByte) {
  for (const char* text : {" ", "a b", "\u00ad", "\u0144", "\u4e2d", "\U0001F600"}) {
    EXPECT_EQ(ByteLevelDecode(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace kvs
