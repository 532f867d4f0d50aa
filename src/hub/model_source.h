// ModelSource: the model that a user names, as a directory on this machine: one that is here, or a
// snapshot of a model on the Hugging Face Hub, from the cache or fetched into it.
//
// A snapshot that has what is needed is served as it is, without asking the Hub whether the branch
// has moved: the same command serves the same weights again, also without a network. Another
// --revision, or removing the model from the cache, fetches anew.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "hub/hub_cache.h"
#include "hub/hub_connection.h"
#include "hub/model_files.h"
#include "kvserve/options.h"
#include "kvserve/status.h"

namespace kvs {

class ModelSource {
 public:
  // `model` as FindModelDir takes it; `revision` is of the Hub and empty for main; `environment` as
  // environ. Afterwards dir() has what `needed` says, at most kDescription: weights come later,
  // when it is known that they can be used. Blocks while it downloads.
  //
  // kNotFound: no such model, revision or file. kUnauthenticated: gated, private, a bad token.
  // kUnavailable: no network, or the Hub is down. kDataError: the Hub sends what it should not.
  // kOsError: the disk is full or refuses. kConfigError: an HF_ variable. Each says what to do.
  static Result<ModelSource> Open(const std::string& model, const std::string& revision,
                                  ModelFiles needed, const char* const* environment,
                                  const RetryPolicy& retry = {});

  const std::filesystem::path& dir() const { return dir_; }
  // "commit 0123abcd... of org/name"; empty for a directory of the user's.
  std::string Describe() const;

  // The safetensors files; does nothing where they are, or for a directory of the user's.
  Result<void> FetchWeights();

 private:
  struct Remote {
    std::string model;
    std::string revision;
    std::string commit;
    HubOptions options;
    RetryPolicy retry;
    HubCache cache;
  };
  explicit ModelSource(std::filesystem::path dir) : dir_(std::move(dir)) {}

  std::filesystem::path dir_;
  std::optional<Remote> remote_;
};

}  // namespace kvs
