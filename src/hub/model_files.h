// Which of a model's files are needed to serve it: what describes it (JSON, templates, tokenizer)
// and its safetensors. Nothing in a subfolder, and no pickle, ever: those can run code when loaded.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "kvserve/status.h"

namespace kvs {

// How much of a model its user needs.
enum class ModelFiles : uint8_t { kConfig, kDescription, kEverything };

// Whether the file is wanted with the description. False for every name that is not a plain file
// name: what a server says does not lead out of its folder.
bool IsDescription(const std::string& name);

// The weight files, by the rule of the loader: model.safetensors, else what the index in `dir`
// names. `exists` tells of the files of the model, which need not be in `dir` yet. kNotFound when
// there are none, kDataError for an index that is damaged or names what is no plain file name.
Result<std::vector<std::string>> WeightFiles(const std::filesystem::path& dir,
                                             const std::function<bool(const std::string&)>& exists);

// The first file that `dir` lacks; nullopt when everything is there.
std::optional<std::string> MissingFile(const std::filesystem::path& dir, ModelFiles needed);

}  // namespace kvs
