#include "hub/model_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

namespace kvs {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr char kConfig[] = "config.json";
constexpr char kTokenizer[] = "tokenizer.json";
constexpr char kSingleFile[] = "model.safetensors";
constexpr char kIndex[] = "model.safetensors.index.json";
constexpr uint64_t kIndexBytesMax = uint64_t{64} << 20;
constexpr size_t kNameBytesMax = 200;

bool EndsWith(std::string_view text, std::string_view end) {
  return text.size() > end.size() && text.substr(text.size() - end.size()) == end;
}

// Letters, digits and a few signs; not hidden, not in a folder.
bool IsPlainFileName(const std::string& name) {
  const auto is_good = [](unsigned char c) {
    return std::isalnum(c) != 0 || std::string_view("._-+ ").find(c) != std::string_view::npos;
  };
  return !name.empty() && name.size() <= kNameBytesMax && name[0] != '.' &&
         std::all_of(name.begin(), name.end(), is_good);
}

}  // namespace

bool IsDescription(const std::string& name) {
  if (!IsPlainFileName(name) || EndsWith(name, ".bin.index.json")) return false;
  return EndsWith(name, ".json") || EndsWith(name, ".jinja") ||
         name.compare(0, 10, "tokenizer.") == 0;
}

Result<std::vector<std::string>> WeightFiles(
    const fs::path& dir, const std::function<bool(const std::string&)>& exists) {
  if (exists(kSingleFile)) return std::vector<std::string>{kSingleFile};
  if (!exists(kIndex)) {
    return Error(Code::kNotFound,
                 fmt::format("there are no weights in safetensors format (neither {} nor {}); "
                             "pickled weights (.bin, .pth) are never loaded, as they can run code",
                             kSingleFile, kIndex));
  }
  const fs::path path = dir / kIndex;
  const auto damaged = [&](std::string_view what) {
    return Error(Code::kDataError, fmt::format("{}: {}", path.string(), what));
  };
  std::error_code error;
  if (fs::file_size(path, error) > kIndexBytesMax || error) return damaged("cannot be read");
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const json index = json::parse(text, nullptr, false);
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  if (map == index.end() || !map->is_object()) return damaged("there is no weight_map");
  std::set<std::string> names;
  for (const json& name : *map) {
    if (!name.is_string() || !IsPlainFileName(name) ||
        !EndsWith(name.get_ref<const std::string&>(), ".safetensors")) {
      return damaged("a tensor is said to be in what is no safetensors file beside it");
    }
    names.insert(name.get<std::string>());
  }
  return std::vector<std::string>(names.begin(), names.end());
}

std::optional<std::string> MissingFile(const fs::path& dir, ModelFiles needed) {
  const auto exists = [&](const std::string& name) {
    std::error_code error;
    return fs::is_regular_file(dir / name, error);  // through a link, to what must be there
  };
  if (!exists(kConfig)) return kConfig;
  if (needed == ModelFiles::kConfig) return std::nullopt;
  if (!exists(kTokenizer)) return kTokenizer;
  if (needed == ModelFiles::kDescription) return std::nullopt;
  const auto weights = WeightFiles(dir, exists);
  if (!weights) return kSingleFile;
  for (const std::string& name : *weights) {
    if (!exists(name)) return name;
  }
  return std::nullopt;
}

}  // namespace kvs
