// FindModelDir: from what the user named to a directory.
#include <fmt/format.h>

#include <array>
#include <filesystem>
#include <string>

#include "config/config.h"

namespace kvs {
namespace {

namespace fs = std::filesystem;

bool IsModelDir(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path / "config.json", error);
}

Result<fs::path> FindBundledModel() {
  std::error_code error;
  const fs::path executable = fs::read_symlink("/proc/self/exe", error);
  const std::array<fs::path, 2> places = {
      executable.parent_path().parent_path() / "share/kvserve/models/default",
      fs::path(KVS_SOURCE_DIR) / "models/default"};
  for (const fs::path& place : places) {
    if (IsModelDir(place)) return place;
  }
  return Error(Code::kNotFound,
               fmt::format("the bundled model is neither in '{}' nor in '{}'; name a model "
                           "directory: kvserve DIR",
                           places[0].string(), places[1].string()),
               "--model");
}

// "org/name", as models are named on the Hugging Face Hub.
bool LooksLikeHubId(const std::string& model) {
  const size_t slash = model.find('/');
  return slash != std::string::npos && slash > 0 && slash + 1 < model.size() &&
         model.find('/', slash + 1) == std::string::npos && model[0] != '.' && model[0] != '~';
}

}  // namespace

Result<fs::path> FindModelDir(const std::string& model) {
  if (model.empty()) return FindBundledModel();
  std::error_code error;
  if (IsModelDir(model)) return fs::path(model);
  if (const fs::path file = model; file.filename() == "config.json" && fs::exists(file, error)) {
    return file.has_parent_path() ? file.parent_path() : fs::path(".");
  }
  if (fs::is_directory(model, error)) {
    return Error(Code::kNotFound,
                 fmt::format("--model: the directory '{}' has no config.json; expected a Hugging "
                             "Face model directory",
                             model),
                 "--model");
  }
  if (fs::exists(model, error)) {
    return Error(Code::kNotFound,
                 fmt::format("--model: expected a model directory, got the file '{}'", model),
                 "--model");
  }
  if (LooksLikeHubId(model)) {
    return Error(Code::kNotFound,
                 fmt::format("--model: there is no directory '{}', and this version does not "
                             "download from the Hugging Face Hub; download the model and pass its "
                             "directory",
                             model),
                 "--model");
  }
  return Error(Code::kNotFound,
               fmt::format("--model: there is no directory '{}'; expected a model directory, or "
                           "nothing for the bundled model",
                           model),
               "--model");
}

}  // namespace kvs
