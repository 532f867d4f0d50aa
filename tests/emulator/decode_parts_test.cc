// The words that blocks leave for each other in decode attention: zero is one that is not there.
#include <gtest/gtest.h>

#include <cmath>

#include "gpu/paged_decode_merge.cuh"

namespace kvs::gpu {
namespace {

TEST(DecodeParts, NoNumberIsTakenForOneThatIsNotThere) {
  for (const uint32_t bits : {0x00000000u, 0x80000000u, 0x00000001u, 0x3f800000u, 0x7f7fffffu,
                              0x7f800000u, 0xff800000u, 0x7fc00000u, 0x7fffffffu, 0xfffffffeu}) {
    const uint32_t word = PartWord(FloatFromBits(bits));
    EXPECT_NE(word, 0u) << std::hex << bits;
    EXPECT_EQ(FloatBits(FromPartWord(word)), bits) << std::hex << bits;
  }
}

TEST(DecodeParts, TheOneNanWithoutAWordStaysANan) {
  const uint32_t word = PartWord(FloatFromBits(0xffffffffu));
  EXPECT_NE(word, 0u);
  EXPECT_TRUE(std::isnan(FromPartWord(word)));
}

}  // namespace
}  // namespace kvs::gpu
