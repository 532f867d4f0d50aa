#include "hub/model_source.h"

#include <fmt/format.h>

#include <utility>
#include <vector>

#include "base/log.h"
#include "config/config.h"
#include "config/environment.h"
#include "hub/hub_repo.h"
#include "hub/snapshot.h"

namespace kvs {
namespace {

constexpr char kDefaultRevision[] = "main";

tl::unexpected<Status> Offline(const std::string& model, const std::string& revision,
                               const HubOptions& options, const std::string& missing) {
  return Error(Code::kNotFound,
               fmt::format("HF_HUB_OFFLINE is set, and the cache '{}' has no {} of model '{}' at "
                           "'{}'; unset it to download, or give the directory of a model",
                           options.cache_dir, missing, model, revision));
}

}  // namespace

Result<ModelSource> ModelSource::Open(const std::string& model, const std::string& revision,
                                      ModelFiles needed, const char* const* environment,
                                      const RetryPolicy& retry) {
  const auto local = FindModelDir(model);
  if (!local) return tl::unexpected(local.error());
  if (*local) {
    if (revision.empty()) return ModelSource(**local);
    return Error(
        Code::kInvalidArgument,
        fmt::format("--revision: got '{}', but '{}' is a directory, not a model on the Hub",
                    revision, (*local)->string()),
        "--revision");
  }
  auto options = ReadHubEnvironment(environment);
  if (!options) return tl::unexpected(std::move(options).error());
  const std::string wanted = revision.empty() ? kDefaultRevision : revision;
  Remote remote{model, wanted, "", *options, retry, HubCache(options->cache_dir, model)};

  const auto known = remote.cache.CommitOf(wanted);
  const auto missing = known ? MissingFile(remote.cache.SnapshotDir(*known), needed)
                             : std::optional<std::string>("snapshot");
  if (!missing) {
    remote.commit = *known;
  } else if (options->offline) {
    return Offline(model, wanted, *options, *missing);
  } else {
    auto hub = HubConnection::Make(*options, retry);
    if (!hub) return tl::unexpected(std::move(hub).error());
    auto listing = ListFiles(*hub, model, wanted);
    if (!listing) return tl::unexpected(std::move(listing).error());
    remote.commit = listing->commit;
    SnapshotRequest request{model, listing->commit, {}};
    for (RepoFile& file : listing->files) {
      if (IsDescription(file.name)) request.files.push_back(std::move(file));
    }
    KVS_RETURN_IF_ERROR(FetchSnapshot(request, *options, retry, remote.cache));
    KVS_RETURN_IF_ERROR(remote.cache.WriteRef(wanted, remote.commit));
    if (const auto lacking = MissingFile(remote.cache.SnapshotDir(remote.commit), needed)) {
      return Error(Code::kNotFound,
                   fmt::format("model '{}' at '{}' has no {} on the Hub", model, wanted, *lacking));
    }
  }
  ModelSource source(remote.cache.SnapshotDir(remote.commit));
  source.remote_ = std::move(remote);
  return source;
}

std::string ModelSource::Describe() const {
  return remote_ ? fmt::format("commit {} of {}", remote_->commit, remote_->model) : std::string();
}

Result<void> ModelSource::FetchWeights() {
  if (!remote_) return {};
  const auto missing = MissingFile(dir_, ModelFiles::kEverything);
  if (!missing) return {};
  const Remote& remote = *remote_;
  if (remote.options.offline) {
    return Offline(remote.model, remote.revision, remote.options, *missing);
  }
  auto hub = HubConnection::Make(remote.options, remote.retry);
  if (!hub) return tl::unexpected(std::move(hub).error());
  const auto listing = ListFiles(*hub, remote.model, remote.commit);
  if (!listing) return tl::unexpected(listing.error());
  const auto names =
      WeightFiles(dir_, [&](const std::string& name) { return listing->Find(name) != nullptr; });
  if (!names) {
    return tl::unexpected(names.error().WithContext(fmt::format("model '{}'", remote.model)));
  }
  SnapshotRequest request{remote.model, remote.commit, {}};
  for (const std::string& name : *names) {
    const RepoFile* file = listing->Find(name);
    request.files.push_back(file != nullptr ? *file : RepoFile{name, 0});
  }
  return FetchSnapshot(request, remote.options, remote.retry, remote.cache);
}

}  // namespace kvs
