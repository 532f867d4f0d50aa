#include "hub/hub_repo.h"

#include <fmt/format.h>

#include <charconv>
#include <nlohmann/json.hpp>
#include <string_view>

#include "hub/digest.h"
#include "hub/hub_cache.h"

namespace kvs {
namespace {

using nlohmann::json;

constexpr size_t kListingBytesMax = 32u << 20;
constexpr size_t kFilesMax = 100'000;

tl::unexpected<Status> NotTheProtocol(const std::string& model, const std::string& what) {
  return Error(Code::kDataError,
               fmt::format("model '{}': the Hub's answer cannot be used: {}", model, what));
}

// ETags come quoted, and weak ones marked.
std::string HashOfEtag(std::string_view etag) {
  if (etag.substr(0, 2) == "W/") etag.remove_prefix(2);
  if (etag.size() >= 2 && etag.front() == '"' && etag.back() == '"') {
    etag = etag.substr(1, etag.size() - 2);
  }
  return std::string(etag);
}

}  // namespace

const RepoFile* RepoListing::Find(const std::string& name) const {
  for (const RepoFile& file : files) {
    if (file.name == name) return &file;
  }
  return nullptr;
}

Result<RepoListing> ListFiles(HubConnection& hub, const std::string& model,
                              const std::string& revision) {
  const std::string path =
      fmt::format("/api/models/{}/revision/{}?blobs=true", model, PercentEncode(revision));
  FetchRequest fetch;
  fetch.body_bytes_max = kListingBytesMax;
  const auto response =
      hub.Fetch({model, revision, ""}, path, fetch, HubConnection::Follow::kOnTheHub);
  if (!response) return tl::unexpected(response.error());
  const json document = json::parse(response->body, nullptr, false);
  if (!document.is_object()) return NotTheProtocol(model, "it is no JSON object");
  RepoListing listing;
  const auto commit = document.find("sha");
  if (commit != document.end() && commit->is_string()) listing.commit = *commit;
  if (!IsCommit(listing.commit)) return NotTheProtocol(model, "'sha' is no commit");
  const auto siblings = document.find("siblings");
  if (siblings == document.end() || !siblings->is_array() || siblings->size() > kFilesMax) {
    return NotTheProtocol(model, "'siblings' is no list of files");
  }
  for (const json& sibling : *siblings) {
    const auto name = sibling.is_object() ? sibling.find("rfilename") : sibling.end();
    if (name == sibling.end() || !name->is_string()) {
      return NotTheProtocol(model, "a file has no 'rfilename'");
    }
    const auto size = sibling.find("size");
    const bool has_size = size != sibling.end() && size->is_number_unsigned();
    listing.files.push_back({*name, has_size ? size->get<uint64_t>() : 0});
  }
  return listing;
}

Result<RemoteFile> DescribeFile(HubConnection& hub, const std::string& model,
                                const std::string& commit, const std::string& name) {
  RemoteFile file{name, fmt::format("/{}/resolve/{}/{}", model, commit, PercentEncode(name)), "",
                  0};
  FetchRequest fetch;
  fetch.method = "HEAD";
  const auto response =
      hub.Fetch({model, commit, name}, file.path, fetch, HubConnection::Follow::kOnTheHub);
  if (!response) return tl::unexpected(response.error());
  const std::string_view linked = response->Header("X-Linked-Etag");
  file.hash = HashOfEtag(linked.empty() ? response->Header("ETag") : linked);
  if (!IsContentHash(file.hash)) {
    return NotTheProtocol(model, fmt::format("the ETag of '{}' is no content hash", name));
  }
  const std::string_view seen_commit = response->Header("X-Repo-Commit");
  if (!seen_commit.empty() && seen_commit != commit) {
    return NotTheProtocol(model, fmt::format("'{}' is of another commit", name));
  }
  std::string_view size = response->Header("X-Linked-Size");
  if (size.empty() && response->status < 300) size = response->Header("Content-Length");
  const auto parsed = std::from_chars(size.data(), size.data() + size.size(), file.size_bytes);
  if (size.empty() || parsed.ec != std::errc() || parsed.ptr != size.data() + size.size()) {
    return NotTheProtocol(model, fmt::format("the size of '{}' is not said", name));
  }
  return file;
}

}  // namespace kvs
