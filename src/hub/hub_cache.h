// HubCache: one model's part of the cache that Hugging Face's tools share, in their layout:
//
//   CACHE/models--ORG--NAME/blobs/HASH             contents, under the hash that the Hub names
//   CACHE/models--ORG--NAME/snapshots/COMMIT/FILE  a link to a blob for each file of a commit
//   CACHE/models--ORG--NAME/refs/REVISION          the commit that a branch or tag was last seen at
//   CACHE/.locks/models--ORG--NAME/HASH.lock       held while the blob is fetched
//
// A blob or a ref appears complete or not at all: it is written beside its place and renamed.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "hub/owned_fd.h"
#include "kvserve/status.h"

namespace kvs {

// 40 hex digits.
bool IsCommit(const std::string& text);

class HubCache {
 public:
  // REQUIRES: `model` is "org/name" as FindModelDir checks it.
  HubCache(std::filesystem::path root, const std::string& model);

  std::filesystem::path SnapshotDir(const std::string& commit) const;
  std::filesystem::path BlobPath(const std::string& hash) const;
  // What was fetched so far of a blob; a later process goes on from there.
  std::filesystem::path IncompletePath(const std::string& hash) const;

  // The commit that `revision` names: itself, or what the ref says. Nullopt: never seen here.
  std::optional<std::string> CommitOf(const std::string& revision) const;

  // Every method below is kOsError with the path and the system's reason.

  Result<void> MakeFolders(const std::string& commit) const;
  // Does nothing for a revision that is a commit itself.
  Result<void> WriteRef(const std::string& revision, const std::string& commit) const;
  // snapshots/COMMIT/`file` -> ../../blobs/`hash`, replacing what is there.
  Result<void> Link(const std::string& commit, const std::string& file,
                    const std::string& hash) const;
  // Waits until no other process fetches this blob. Held until the result is destroyed.
  Result<OwnedFd> Lock(const std::string& hash) const;

 private:
  std::filesystem::path root_;
  std::string folder_;
};

}  // namespace kvs
