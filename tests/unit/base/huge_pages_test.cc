#include "base/huge_pages.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <numeric>

namespace kvs {
namespace {

TEST(HugePagesTest, SmallBeginsAtACacheLineAndLargeAtAHugePage) {
  for (const size_t bytes : {size_t{1}, size_t{1000}, size_t{2} << 20, (size_t{4} << 20) + 1}) {
    const HugePageVector<uint8_t> data(bytes);
    const uintptr_t unit = bytes >= (size_t{2} << 20) ? size_t{2} << 20 : 64;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(data.data()) % unit, 0u) << bytes;
  }
}

TEST(HugePagesTest, GrowsLikeAnyVector) {
  HugePageVector<uint64_t> data;
  for (uint64_t i = 0; i < 1000; ++i) data.push_back(i);
  EXPECT_EQ(std::accumulate(data.begin(), data.end(), uint64_t{0}), 999u * 1000 / 2);
}

TEST(HugePagesTest, TooMuchThrows) {
  HugePages<uint64_t> memory;
  EXPECT_THROW(memory.allocate(SIZE_MAX / 4), std::bad_array_new_length);
}

}  // namespace
}  // namespace kvs
