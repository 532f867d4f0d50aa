#include "model/read_ahead.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "model/read_only_file.h"
#include "unit/model/model_fixture.h"

namespace kvs {
namespace {

using std::chrono::milliseconds;

// Waits until that many bytes were read, or for some seconds.
uint64_t BytesReadSoon(const ReadAhead& ahead, uint64_t expected) {
  for (int i = 0; i < 2000 && ahead.bytes_read() < expected; ++i) {
    std::this_thread::sleep_for(milliseconds(2));
  }
  return ahead.bytes_read();
}

class ReadAheadTest : public ::testing::Test {
 protected:
  ReadAheadTest() {
    WriteFile(dir_ / "a", std::string(10000, 'a'));
    WriteFile(dir_ / "b", std::string(5000, 'b'));
    a_ = std::make_unique<ReadOnlyFile>(*ReadOnlyFile::Open(dir_ / "a"));
    b_ = std::make_unique<ReadOnlyFile>(*ReadOnlyFile::Open(dir_ / "b"));
  }
  TempDir dir_;
  std::unique_ptr<ReadOnlyFile> a_, b_;
};

TEST_F(ReadAheadTest, ReadsEveryRangeOnce) {
  const ReadAhead ahead({{a_->fd(), 0, 9000}, {b_->fd(), 1000, 5000}, {a_->fd(), 9000, 9000}},
                        {.num_threads = 3, .window = 1 << 20, .piece = 700});
  EXPECT_EQ(BytesReadSoon(ahead, 13000), 13000u);
  std::this_thread::sleep_for(milliseconds(20));
  EXPECT_EQ(ahead.bytes_read(), 13000u);
}

TEST_F(ReadAheadTest, StaysWithinItsWindow) {
  ReadAhead ahead({{a_->fd(), 0, 10000}}, {.num_threads = 2, .window = 3000, .piece = 1000});
  EXPECT_EQ(BytesReadSoon(ahead, 3000), 3000u);
  std::this_thread::sleep_for(milliseconds(30));
  EXPECT_EQ(ahead.bytes_read(), 3000u);
  ahead.Used(2500);
  EXPECT_EQ(BytesReadSoon(ahead, 5000), 5000u);
  std::this_thread::sleep_for(milliseconds(30));
  EXPECT_EQ(ahead.bytes_read(), 5000u);
  // The rest is never used: destruction does not wait for it.
}

TEST_F(ReadAheadTest, SurvivesAFileThatIsShorter) {
  const ReadAhead ahead({{b_->fd(), 0, 100000}, {a_->fd(), 0, 10}},
                        {.num_threads = 1, .window = 1 << 20, .piece = 100000});
  EXPECT_EQ(BytesReadSoon(ahead, 5010), 5010u);
}

}  // namespace
}  // namespace kvs
