#include "cpu/memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace kvs::cpu {
namespace {

constexpr size_t kPage = 4096;

size_t ResidentPages(const DeviceBuffer& buffer, size_t bytes) {
  std::vector<unsigned char> resident((bytes + kPage - 1) / kPage);
  EXPECT_EQ(mincore(buffer.data(), bytes, resident.data()), 0);
  return std::count_if(resident.begin(), resident.end(), [](unsigned char r) { return r & 1; });
}

TEST(AllocatePagesTest, PagesComeNowOrWithTheirFirstUse) {
  for (const size_t bytes : {kPage, size_t{3} << 20}) {
    const auto now = AllocatePages(bytes, "test", Pages::kNow);
    ASSERT_TRUE(now);
    EXPECT_EQ(ResidentPages(*now, bytes), bytes / kPage);
    const auto later = AllocatePages(bytes, "test", Pages::kOnUse);
    ASSERT_TRUE(later);
    EXPECT_EQ(ResidentPages(*later, bytes), 0u);
  }
}

TEST(AllocatePagesTest, MemoryIsZeroedAndLargeMemoryAligned) {
  const size_t bytes = (size_t{2} << 20) + 1;
  const auto buffer = AllocatePages(bytes, "test", Pages::kNow);
  ASSERT_TRUE(buffer);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % (size_t{2} << 20), 0u);
  const auto* data = static_cast<const uint8_t*>(buffer->data());
  EXPECT_TRUE(std::all_of(data, data + bytes, [](uint8_t byte) { return byte == 0; }));
}

TEST(AllocatePagesTest, TooMuchIsAnErrorThatNamesTheUse) {
  const auto buffer = AllocatePages(size_t{1} << 60, "the test", Pages::kOnUse);
  ASSERT_FALSE(buffer);
  EXPECT_NE(buffer.error().message().find("the test"), std::string::npos);
}

}  // namespace
}  // namespace kvs::cpu
