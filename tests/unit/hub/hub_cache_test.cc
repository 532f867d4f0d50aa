#include "hub/hub_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <thread>

#include "stub_hub.h"

namespace kvs {
namespace {

namespace fs = std::filesystem;

TEST(HubCache, KnowsRefsAndCommits) {
  const TempDir dir;
  const HubCache cache(dir.path(), kModel);
  EXPECT_EQ(cache.CommitOf("main"), std::nullopt);
  EXPECT_EQ(cache.CommitOf(kCommit), kCommit);
  ASSERT_TRUE(cache.WriteRef("main", kCommit));
  EXPECT_EQ(cache.CommitOf("main"), kCommit);
  EXPECT_EQ(ReadText(dir.path() / "models--org--tiny/refs/main"), kCommit);
  ASSERT_TRUE(cache.WriteRef(kCommit, kCommit));
  EXPECT_FALSE(fs::exists(dir.path() / "models--org--tiny/refs" / kCommit));
  WriteText(dir.path() / "models--org--tiny/refs/bad", "../../../somewhere");
  EXPECT_EQ(cache.CommitOf("bad"), std::nullopt);
}

TEST(HubCache, LinksReplaceWhatIsThere) {
  const TempDir dir;
  const HubCache cache(dir.path(), kModel);
  ASSERT_TRUE(cache.MakeFolders(kCommit));
  WriteText(cache.BlobPath("aa"), "first");
  WriteText(cache.BlobPath("bb"), "second");
  ASSERT_TRUE(cache.Link(kCommit, "config.json", "aa"));
  ASSERT_TRUE(cache.Link(kCommit, "config.json", "aa"));
  EXPECT_EQ(ReadText(cache.SnapshotDir(kCommit) / "config.json"), "first");
  ASSERT_TRUE(cache.Link(kCommit, "config.json", "bb"));
  EXPECT_EQ(ReadText(cache.SnapshotDir(kCommit) / "config.json"), "second");
}

TEST(HubCache, ALockIsHeldByOne) {
  const TempDir dir;
  const HubCache cache(dir.path(), kModel);
  ASSERT_TRUE(cache.MakeFolders(kCommit));
  std::atomic<bool> released = false;
  auto held = std::make_unique<OwnedFd>(*cache.Lock("aa"));
  std::thread other([&] {
    ASSERT_TRUE(cache.Lock("aa"));
    EXPECT_TRUE(released);
  });
  ASSERT_TRUE(cache.Lock("bb"));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  released = true;
  held.reset();
  other.join();
}

TEST(HubCache, ALockWhoseFileWasRemovedIsNotTaken) {
  const TempDir dir;
  const HubCache cache(dir.path(), kModel);
  ASSERT_TRUE(cache.MakeFolders(kCommit));
  const fs::path path = dir.path() / ".locks/models--org--tiny/aa.lock";
  auto held = std::make_unique<OwnedFd>(*cache.Lock("aa"));
  std::thread other([&] {
    const auto lock = cache.Lock("aa");
    ASSERT_TRUE(lock);
    struct stat mine {
    }, named{};
    ASSERT_EQ(fstat(lock->get(), &mine), 0);
    ASSERT_EQ(stat(path.c_str(), &named), 0);
    EXPECT_EQ(mine.st_ino, named.st_ino);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  fs::remove(path);
  held.reset();
  other.join();
}

TEST(HubCache, AFolderThatCannotBeMadeIsNamed) {
  const TempDir dir;
  WriteText(dir.path() / "file", "");
  const HubCache cache(dir.path() / "file", kModel);
  const auto made = cache.MakeFolders(kCommit);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code(), Code::kOsError);
  EXPECT_THAT(made.error().message(), testing::HasSubstr("HF_HUB_CACHE"));
}

}  // namespace
}  // namespace kvs
