#include "hub/download.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>
#include <system_error>

#include "base/log.h"
#include "hub/digest.h"
#include "hub/owned_fd.h"

namespace kvs {
namespace {

namespace fs = std::filesystem;

class BlobDownload {
 public:
  BlobDownload(const HubQuestion& question, const RemoteFile& file, const HubCache& cache,
               HubConnection& hub, FileProgress& progress)
      : question_(question),
        file_(file),
        path_(cache.IncompletePath(file.hash)),
        hub_(hub),
        progress_(progress) {}

  // From what is there to the whole file, of the right content.
  Result<void> Run() {
    KVS_RETURN_IF_ERROR(Open());
    for (int round = 1;; ++round) {
      KVS_RETURN_IF_ERROR(CheckSpace());
      KVS_RETURN_IF_ERROR(FetchRest());
      const auto hash = HashOfFile(path_, file_.hash, [&](uint64_t) { return !Stopped(); });
      if (!hash) return tl::unexpected(hash.error());
      if (*hash == file_.hash) break;
      KVS_RETURN_IF_ERROR(Truncate());
      if (round == kRoundsMax) {
        return Error(Code::kDataError,
                     fmt::format("model '{}': the content of '{}' has the hash {}, expected {}; "
                                 "something between the Hub and here changes it",
                                 question_.model, file_.name, *hash, file_.hash));
      }
      LOG_WARNING("{}: its hash is not the one the Hub says; fetching it again", file_.name);
    }
    if (fsync(fd_.get()) != 0) return DiskError();
    return {};
  }

 private:
  static constexpr int kRoundsMax = 2;

  bool Stopped() const { return progress_.stopped(); }

  tl::unexpected<Status> DiskError() const {
    if (errno == ENOSPC || errno == EDQUOT) return DiskFull();
    return Error(Code::kOsError,
                 fmt::format("{}: {}", path_.string(), std::generic_category().message(errno)));
  }
  tl::unexpected<Status> DiskFull() const {
    return Error(Code::kOsError,
                 fmt::format("{}: the disk is full: '{}' needs {} bytes more; make room, or set "
                             "HF_HUB_CACHE to a directory that has it",
                             path_.parent_path().string(), file_.name, file_.size_bytes - done_));
  }

  Result<void> Open() {
    fd_ = OwnedFd(open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
    struct stat info {};
    if (!fd_ || fstat(fd_.get(), &info) != 0) return DiskError();
    done_ = static_cast<uint64_t>(info.st_size);
    progress_.Add(static_cast<int64_t>(done_));
    if (done_ > file_.size_bytes) return Truncate();
    if (done_ > 0) LOG_INFO("{}: going on after {} bytes", file_.name, done_);
    return {};
  }

  Result<void> Truncate() {
    if (ftruncate(fd_.get(), 0) != 0) return DiskError();
    progress_.Add(-static_cast<int64_t>(done_));
    done_ = 0;
    return {};
  }

  Result<void> CheckSpace() const {
    struct statvfs disk {};
    if (statvfs(path_.parent_path().c_str(), &disk) != 0) return {};  // the writes will tell
    const uint64_t free_bytes = uint64_t{disk.f_bavail} * disk.f_frsize;
    if (file_.size_bytes - done_ > free_bytes) return DiskFull();
    return {};
  }

  Result<void> FetchRest() {
    for (int attempt = 1; done_ < file_.size_bytes; ++attempt) {
      const uint64_t before = done_;
      auto response = FetchOnce();
      if (failure_) return tl::unexpected(*failure_);
      if (Stopped()) return Error(Code::kUnavailable, fmt::format("{}: stopped", file_.name));
      if (done_ == file_.size_bytes) break;
      // What is here is no part of what is there.
      const bool other_range =
          response && (response->status == 416 || (response->status == 206 && done_ == before));
      if (other_range) {
        KVS_RETURN_IF_ERROR(Truncate());
      } else if (response && response->status >= 400 && !HubConnection::IsPassing(response)) {
        return tl::unexpected(hub_.StatusOf(question_, response));
      }
      if (done_ > before) attempt = 1;
      if (attempt >= hub_.retry().attempts) {
        if (response && response->status < 400) {
          response = Error(Code::kUnavailable, fmt::format("'{}' ended after {} of {} bytes",
                                                           file_.name, done_, file_.size_bytes));
        }
        return tl::unexpected(hub_.StatusOf(question_, response));
      }
      hub_.WaitBefore(attempt, response);
    }
    return {};
  }

  Result<FetchResponse> FetchOnce() {
    FetchRequest fetch;
    if (done_ > 0) fetch.headers.emplace_back("Range", fmt::format("bytes={}-", done_));
    fetch.on_head = [&](const FetchResponse& head) {
      if (head.status == 206) {
        return head.Header("Content-Range").substr(0, 6 + RangeStart().size()) ==
               "bytes " + RangeStart();
      }
      if (head.status != 200) return false;
      // The server has no ranges, or another content than before: it sends everything.
      if (done_ > 0) Note(Truncate());
      return true;
    };
    fetch.on_data = [&](std::string_view piece) { return Write(piece) && !Stopped(); };
    return hub_.Once(file_.path, fetch, HubConnection::Follow::kEverywhere);
  }

  std::string RangeStart() const { return fmt::format("{}-", done_); }

  void Note(Result<void> result) {
    if (!result) failure_ = std::move(result).error();
  }

  bool Write(std::string_view piece) {
    if (piece.size() > file_.size_bytes - done_) {
      failure_ = Status(Code::kDataError,
                        fmt::format("model '{}': the Hub sends more of '{}' than the {} bytes it "
                                    "announced",
                                    question_.model, file_.name, file_.size_bytes));
    }
    while (!failure_ && !piece.empty()) {
      const ssize_t written = write(fd_.get(), piece.data(), piece.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) {
        failure_ = DiskError().value();
        break;
      }
      piece.remove_prefix(static_cast<size_t>(written));
      done_ += static_cast<uint64_t>(written);
      progress_.Add(written);
    }
    return !failure_;
  }

  const HubQuestion& question_;
  const RemoteFile& file_;
  const fs::path path_;
  HubConnection& hub_;
  FileProgress& progress_;
  OwnedFd fd_{-1};
  uint64_t done_ = 0;              // bytes of the file that are on the disk
  std::optional<Status> failure_;  // ours, seen while a response was read
};

}  // namespace

Result<void> DownloadBlob(const HubQuestion& question, const RemoteFile& file,
                          const HubCache& cache, HubConnection& hub, DownloadProgress& progress) {
  const fs::path blob = cache.BlobPath(file.hash);
  FileProgress of_file(progress, file.name, file.size_bytes);
  const auto is_there = [&] {
    std::error_code error;
    if (!fs::exists(blob, error)) return false;
    of_file.Add(static_cast<int64_t>(file.size_bytes));
    return true;
  };
  if (is_there()) return {};
  const auto lock = cache.Lock(file.hash);
  if (!lock) return tl::unexpected(lock.error());
  if (is_there()) return {};
  KVS_RETURN_IF_ERROR(BlobDownload(question, file, cache, hub, of_file).Run());
  std::error_code error;
  fs::rename(cache.IncompletePath(file.hash), blob, error);
  if (!error) return {};
  return Error(Code::kOsError, fmt::format("{}: {}", blob.string(), error.message()));
}

}  // namespace kvs
