// Fetches one file's content into the cache: from where an earlier attempt left off, checked
// against its hash before it gets its name.
#pragma once

#include "hub/download_progress.h"
#include "hub/hub_cache.h"
#include "hub/hub_connection.h"
#include "hub/hub_repo.h"
#include "kvserve/status.h"

namespace kvs {

// Afterwards cache.BlobPath(file.hash) is there, complete. One process at a time fetches a blob,
// the others wait and find it. kDataError when the content has twice not been what the hash says;
// kOsError when the disk is full or refuses; kUnavailable when the connection stays bad (what came
// is kept), or when `progress` was stopped.
Result<void> DownloadBlob(const HubQuestion& question, const RemoteFile& file,
                          const HubCache& cache, HubConnection& hub, DownloadProgress& progress);

}  // namespace kvs
