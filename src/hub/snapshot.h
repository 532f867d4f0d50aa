// Fetches several files of one commit into the cache, a few at once.
#pragma once

#include <string>
#include <vector>

#include "hub/hub_cache.h"
#include "hub/hub_connection.h"
#include "hub/hub_repo.h"
#include "kvserve/options.h"
#include "kvserve/status.h"

namespace kvs {

struct SnapshotRequest {
  std::string model;
  std::string commit;
  std::vector<RepoFile> files;  // plain names
};

// Afterwards every file has its link in the snapshot's folder. The first failure ends the others;
// what they had so far stays for the next time. As DescribeFile, DownloadBlob and HubCache.
Result<void> FetchSnapshot(const SnapshotRequest& request, const HubOptions& options,
                           const RetryPolicy& retry, const HubCache& cache);

}  // namespace kvs
