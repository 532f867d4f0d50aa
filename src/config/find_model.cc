// FindModelDir: from what the user named to a directory.
#include <fmt/format.h>

#include <array>
#include <cctype>
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
bool IsHubId(const std::string& model) {
  constexpr size_t kPartBytesMax = 96;
  const size_t slash = model.find('/');
  if (slash == std::string::npos || slash == 0 || slash + 1 == model.size()) return false;
  if (slash > kPartBytesMax || model.size() - slash - 1 > kPartBytesMax) return false;
  for (size_t i = 0; i < model.size(); ++i) {
    const auto c = static_cast<unsigned char>(model[i]);
    const bool begins = i == 0 || i == slash + 1;
    const bool good = std::isalnum(c) != 0 || c == '_' || (!begins && (c == '-' || c == '.'));
    if (!good && i != slash) return false;
  }
  return model.find("--") == std::string::npos && model.find("..") == std::string::npos;
}

}  // namespace

Result<std::optional<fs::path>> FindModelDir(const std::string& model) {
  if (model.empty()) {
    auto bundled = FindBundledModel();
    if (!bundled) return tl::unexpected(std::move(bundled).error());
    return *std::move(bundled);
  }
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
  if (IsHubId(model)) return std::nullopt;
  return Error(Code::kNotFound,
               fmt::format("--model: there is no directory '{}'; expected a model directory, a "
                           "model on the Hugging Face Hub (org/name), or nothing for the bundled "
                           "model",
                           model),
               "--model");
}

}  // namespace kvs
