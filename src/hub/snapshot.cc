#include "hub/snapshot.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <thread>

#include "base/log.h"
#include "hub/download.h"
#include "hub/download_progress.h"

namespace kvs {
namespace {

// As many as Hugging Face's own tools have in flight.
constexpr size_t kDownloadsAtOnce = 8;

// One download after the other until none is left, from several threads.
class SnapshotDownload {
 public:
  SnapshotDownload(const SnapshotRequest& request, const HubOptions& options,
                   const RetryPolicy& retry, const HubCache& cache, uint64_t bytes_total)
      : request_(request),
        options_(options),
        retry_(retry),
        cache_(cache),
        progress_(request.model, bytes_total) {}

  void Work() {
    const Result<void> done = FetchAll();
    if (done) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!first_error_) first_error_ = done.error();
    progress_.Stop();  // only now: what the others say then comes second
  }

  Result<void> result() const {
    if (first_error_) return tl::unexpected(*first_error_);
    return {};
  }

 private:
  Result<void> FetchAll() {
    auto hub = HubConnection::Make(options_, retry_);
    if (!hub) return tl::unexpected(hub.error());
    for (size_t i = next_++; i < request_.files.size() && !progress_.stopped(); i = next_++) {
      KVS_RETURN_IF_ERROR(FetchOne(request_.files[i].name, *hub));
    }
    return {};
  }

  Result<void> FetchOne(const std::string& name, HubConnection& hub) {
    const auto file = DescribeFile(hub, request_.model, request_.commit, name);
    if (!file) return tl::unexpected(file.error());
    KVS_RETURN_IF_ERROR(
        DownloadBlob({request_.model, request_.commit, name}, *file, cache_, hub, progress_));
    return cache_.Link(request_.commit, name, file->hash);
  }

  const SnapshotRequest& request_;
  const HubOptions& options_;
  const RetryPolicy& retry_;
  const HubCache& cache_;
  DownloadProgress progress_;
  std::atomic<size_t> next_ = 0;
  std::mutex mutex_;
  std::optional<Status> first_error_;  // guarded by mutex_ until all threads have ended
};

}  // namespace

Result<void> FetchSnapshot(const SnapshotRequest& request, const HubOptions& options,
                           const RetryPolicy& retry, const HubCache& cache) {
  KVS_RETURN_IF_ERROR(cache.MakeFolders(request.commit));
  uint64_t bytes_total = 0;
  for (const RepoFile& file : request.files) bytes_total += file.size_bytes;
  LOG_INFO("downloading {} files, {} bytes, of {} at {} to {}", request.files.size(), bytes_total,
           request.model, request.commit, cache.SnapshotDir(request.commit).string());
  SnapshotDownload download(request, options, retry, cache, bytes_total);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < std::min(kDownloadsAtOnce, request.files.size()); ++i) {
    threads.emplace_back([&] { download.Work(); });
  }
  for (std::thread& thread : threads) thread.join();
  return download.result();
}

}  // namespace kvs
