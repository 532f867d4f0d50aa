#include "hub/download.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>

#include "stub_hub.h"

namespace kvs {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr RetryPolicy kImpatient = {.attempts = 3,
                                    .first_delay = std::chrono::milliseconds(1),
                                    .delay_max = std::chrono::milliseconds(10)};
constexpr char kName[] = "model.safetensors";

class DownloadTest : public testing::Test {
 protected:
  DownloadTest() : cache_(dir_.path(), kModel), content_(hub_.Content(kName)) {
    EXPECT_TRUE(cache_.MakeFolders(kCommit));
    file_ = {kName, std::string("/org/tiny/resolve/") + kCommit + "/" + kName,
             HashOf(content_, true), content_.size()};
  }

  Result<void> Download() {
    HubOptions options;
    options.endpoint = hub_.url();
    auto connection = HubConnection::Make(options, kImpatient);
    DownloadProgress progress("test", file_.size_bytes);
    return DownloadBlob({kModel, "main", kName}, file_, cache_, *connection, progress);
  }
  fs::path blob() const { return cache_.BlobPath(file_.hash); }
  fs::path incomplete() const { return cache_.IncompletePath(file_.hash); }
  // Answers about the content with `answer`, the first `times` times.
  void Spoil(int times, std::function<StubHub::Pieces(const CannedRequest&)> answer) {
    hub_.SetTrouble(
        [=, left = times](const CannedRequest& request) mutable -> std::optional<StubHub::Pieces> {
          if (request.head.find("GET /blob/") != 0 || left == 0) return std::nullopt;
          --left;
          return answer(request);
        });
  }

  TempDir dir_;
  StubHub hub_;
  HubCache cache_;
  std::string content_;
  RemoteFile file_;
};

TEST_F(DownloadTest, WhatIsThereIsNotFetched) {
  WriteText(blob(), "already");
  ASSERT_TRUE(Download());
  EXPECT_EQ(ReadText(blob()), "already");
  EXPECT_TRUE(hub_.Seen("").empty());
}

TEST_F(DownloadTest, GoesOnWhereAnEarlierProcessStopped) {
  WriteText(incomplete(), content_.substr(0, 1000));
  ASSERT_TRUE(Download());
  EXPECT_EQ(ReadText(blob()), content_);
  EXPECT_FALSE(fs::exists(incomplete()));
  ASSERT_EQ(hub_.Seen("GET /blob/").size(), 1u);
  EXPECT_THAT(hub_.Seen("GET /blob/")[0], HasSubstr("Range: bytes=1000-"));
}

TEST_F(DownloadTest, GoesOnAfterACutConnection) {
  // More cuts than attempts: each brings something, so none is the last.
  Spoil(5, [&](const CannedRequest& request) {
    StubHub::Pieces pieces = StubHub::ContentResponse(request, content_);
    pieces[0].resize(pieces[0].find("\r\n\r\n") + 4 + 40'000);
    return pieces;
  });
  const auto done = Download();
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_EQ(ReadText(blob()), content_);
  EXPECT_THAT(hub_.Seen("GET /blob/").back(), HasSubstr("Range: bytes=200000-"));
}

TEST_F(DownloadTest, AConnectionThatIsAlwaysCutIsAnErrorThatKeepsWhatCame) {
  Spoil(1000, [&](const CannedRequest& request) {
    StubHub::Pieces pieces = StubHub::ContentResponse(request, content_);
    const bool first = request.head.find("Range") == std::string::npos;
    pieces[0].resize(pieces[0].find("\r\n\r\n") + 4 + (first ? 7 : 0));
    return pieces;
  });
  const auto done = Download();
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code(), Code::kUnavailable);
  EXPECT_EQ(ReadText(incomplete()), content_.substr(0, 7));
  EXPECT_FALSE(fs::exists(blob()));
}

TEST_F(DownloadTest, AServerWithoutRangesSendsEverythingAgain) {
  WriteText(incomplete(), "something else");
  Spoil(1, [&](const CannedRequest&) { return StubHub::Pieces{CannedResponse(200, content_)}; });
  ASSERT_TRUE(Download());
  EXPECT_EQ(ReadText(blob()), content_);
}

TEST_F(DownloadTest, ARangeThatIsNotThereStartsAnew) {
  WriteText(incomplete(), "something else");
  Spoil(1, [&](const CannedRequest&) { return StubHub::Refusal(416, ""); });
  ASSERT_TRUE(Download());
  WriteText(incomplete(), "something else");
  fs::remove(blob());
  Spoil(1, [&](const CannedRequest&) {
    return StubHub::Pieces{
        "HTTP/1.1 206 X\r\nConnection: close\r\nContent-Range: bytes 0-3/4\r\n"
        "Content-Length: 4\r\n\r\nabcd"};
  });
  const auto done = Download();
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_EQ(ReadText(blob()), content_);
}

TEST_F(DownloadTest, AWrongContentIsFetchedOnceMore) {
  std::string wrong = content_;
  wrong[5] = 'x';
  Spoil(1, [=](const CannedRequest&) { return StubHub::Pieces{CannedResponse(200, wrong)}; });
  ASSERT_TRUE(Download());
  EXPECT_EQ(ReadText(blob()), content_);
}

TEST_F(DownloadTest, AContentThatStaysWrongIsRefused) {
  std::string wrong = content_;
  wrong[5] = 'x';
  Spoil(2, [=](const CannedRequest&) { return StubHub::Pieces{CannedResponse(200, wrong)}; });
  const auto done = Download();
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code(), Code::kDataError);
  EXPECT_THAT(done.error().message(), HasSubstr(file_.hash));
  EXPECT_FALSE(fs::exists(blob()));
}

TEST_F(DownloadTest, MoreThanWasAnnouncedIsRefused) {
  Spoil(1,
        [&](const CannedRequest&) { return StubHub::Pieces{CannedResponse(200, content_ + "!")}; });
  const auto done = Download();
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code(), Code::kDataError);
  EXPECT_THAT(done.error().message(), HasSubstr("more of 'model.safetensors' than"));
  EXPECT_LE(fs::file_size(incomplete()), content_.size());
}

TEST_F(DownloadTest, AFullDiskIsSaid) {
  file_.size_bytes = uint64_t{1} << 60;
  const auto done = Download();
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code(), Code::kOsError);
  EXPECT_THAT(done.error().message(), HasSubstr("the disk is full"));
  EXPECT_THAT(done.error().message(), HasSubstr("HF_HUB_CACHE"));
}

TEST_F(DownloadTest, AWriteThatFailsIsSaid) {
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{1000, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const auto done = Download();
  setrlimit(RLIMIT_FSIZE, &before);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code(), Code::kOsError);
  EXPECT_THAT(done.error().message(), HasSubstr(incomplete().string()));
}

TEST_F(DownloadTest, RedirectsInCirclesEnd) {
  hub_.SetTrouble([&](const CannedRequest&) -> std::optional<StubHub::Pieces> {
    return StubHub::Pieces{
        "HTTP/1.1 302 X\r\nConnection: close\r\nLocation: /again\r\n"
        "Content-Length: 0\r\n\r\n"};
  });
  const auto done = Download();
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().message(), HasSubstr("redirects"));
}

}  // namespace
}  // namespace kvs
