#include "hub/hub_cache.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <fstream>
#include <system_error>

#include "base/log.h"

namespace kvs {
namespace {

namespace fs = std::filesystem;

tl::unexpected<Status> SystemError(const char* doing, const fs::path& path,
                                   const std::error_code& error) {
  return Error(Code::kOsError,
               fmt::format("cannot {} '{}': {}; HF_HUB_CACHE or HF_HOME may name another directory",
                           doing, path.string(), error.message()));
}

std::error_code LastError() { return {errno, std::generic_category()}; }

Result<void> MakeFolder(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) return SystemError("create", path, error);
  return {};
}

// A name beside `path` that no other process and no other thread uses.
fs::path Beside(const fs::path& path) {
  static std::atomic<uint32_t> count = 0;
  return path.string() + fmt::format(".{}-{}.tmp", getpid(), ++count);
}

Result<void> Rename(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (!error) return {};
  std::error_code ignored;
  fs::remove(from, ignored);
  return SystemError("write", to, error);
}

}  // namespace

bool IsCommit(const std::string& text) {
  constexpr size_t kHexDigits = 40;
  return text.size() == kHexDigits && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

HubCache::HubCache(fs::path root, const std::string& model) : root_(std::move(root)) {
  const size_t slash = model.find('/');
  folder_ = fmt::format("models--{}--{}", model.substr(0, slash), model.substr(slash + 1));
}

fs::path HubCache::SnapshotDir(const std::string& commit) const {
  return root_ / folder_ / "snapshots" / commit;
}
fs::path HubCache::BlobPath(const std::string& hash) const {
  return root_ / folder_ / "blobs" / hash;
}
fs::path HubCache::IncompletePath(const std::string& hash) const {
  return root_ / folder_ / "blobs" / (hash + ".incomplete");
}

std::optional<std::string> HubCache::CommitOf(const std::string& revision) const {
  if (IsCommit(revision)) return revision;
  std::ifstream file(root_ / folder_ / "refs" / revision);
  std::string commit;
  if (!(file >> commit) || !IsCommit(commit)) return std::nullopt;
  return commit;
}

Result<void> HubCache::MakeFolders(const std::string& commit) const {
  KVS_RETURN_IF_ERROR(MakeFolder(root_ / folder_ / "blobs"));
  KVS_RETURN_IF_ERROR(MakeFolder(root_ / folder_ / "refs"));
  KVS_RETURN_IF_ERROR(MakeFolder(root_ / ".locks" / folder_));
  return MakeFolder(SnapshotDir(commit));
}

Result<void> HubCache::WriteRef(const std::string& revision, const std::string& commit) const {
  if (revision == commit || CommitOf(revision) == commit) return {};
  const fs::path path = root_ / folder_ / "refs" / revision;
  KVS_RETURN_IF_ERROR(MakeFolder(path.parent_path()));
  const fs::path beside = Beside(path);
  std::ofstream file(beside, std::ios::binary);
  file << commit;
  file.close();
  if (!file) return SystemError("write", beside, LastError());
  return Rename(beside, path);
}

Result<void> HubCache::Link(const std::string& commit, const std::string& file,
                            const std::string& hash) const {
  const fs::path link = SnapshotDir(commit) / file;
  const fs::path target = fs::path("../../blobs") / hash;
  std::error_code error;
  if (fs::read_symlink(link, error) == target) return {};
  const fs::path beside = Beside(link);
  error.clear();
  fs::create_symlink(target, beside, error);
  if (error) return SystemError("create", beside, error);
  return Rename(beside, link);
}

Result<OwnedFd> HubCache::Lock(const std::string& hash) const {
  const fs::path path = root_ / ".locks" / folder_ / (hash + ".lock");
  constexpr mode_t kShared = 0664;  // several users may share a cache
  while (true) {
    OwnedFd lock(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, kShared));
    if (!lock) return SystemError("open", path, LastError());
    if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) return SystemError("lock", path, LastError());
      LOG_INFO("waiting for another download that holds {}", path.string());
      while (flock(lock.get(), LOCK_EX) != 0) {
        if (errno != EINTR) return SystemError("lock", path, LastError());
      }
    }
    // Its last holder may have removed the file; then another one can be locked beside this.
    struct stat mine {
    }, named{};
    if (fstat(lock.get(), &mine) != 0) return SystemError("lock", path, LastError());
    if (stat(path.c_str(), &named) == 0 && mine.st_ino == named.st_ino) return lock;
  }
}

}  // namespace kvs
