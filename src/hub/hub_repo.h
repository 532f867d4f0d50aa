// What the Hub says about a model: its files at a revision, and each file's content hash and size.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "hub/hub_connection.h"
#include "kvserve/status.h"

namespace kvs {

struct RepoFile {
  std::string name;         // as the server says; not checked
  uint64_t size_bytes = 0;  // 0: not said
};

struct RepoListing {
  std::string commit;  // 40 hex digits
  std::vector<RepoFile> files;

  const RepoFile* Find(const std::string& name) const;
};

// Where a file's content is, and what it must be.
struct RemoteFile {
  std::string name;
  std::string path;  // below the endpoint
  std::string hash;  // IsContentHash
  uint64_t size_bytes = 0;
};

// kDataError when the answer is not what the protocol says; else as HubConnection::Fetch.
Result<RepoListing> ListFiles(HubConnection& hub, const std::string& model,
                              const std::string& revision);
Result<RemoteFile> DescribeFile(HubConnection& hub, const std::string& model,
                                const std::string& commit, const std::string& name);

}  // namespace kvs
