#include "config/config_file.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "config/suggest.h"

namespace kvs {
namespace {

tl::unexpected<Status> FileError(const std::string& where, std::string_view problem) {
  return Error(Code::kConfigError, fmt::format("{}: {}", where, problem));
}

const FlagSpec* FindFlag(const std::vector<FlagSpec>& table, const std::string& name) {
  for (const FlagSpec& spec : table) {
    if (name == spec.name) return &spec;
  }
  return nullptr;
}

tl::unexpected<Status> UnknownKey(const std::string& where, const std::string& name,
                                  const std::vector<FlagSpec>& table) {
  std::vector<std::string> names;
  for (const FlagSpec& spec : table) {
    names.emplace_back(spec.name);
    std::replace(names.back().begin(), names.back().end(), '-', '_');
  }
  std::string underscored = name;
  std::replace(underscored.begin(), underscored.end(), '-', '_');
  return FileError(where, "unknown key" + Suggestion(underscored, names));
}

// The texts of a scalar, or of a list where the flag takes one.
Result<std::vector<std::string>> ValuesOf(const YAML::Node& value, const FlagSpec& spec,
                                          const std::string& where) {
  const bool is_list = spec.kind == FlagKind::kList || spec.kind == FlagKind::kSeveral;
  switch (value.Type()) {
    case YAML::NodeType::Scalar:
      return std::vector{value.Scalar()};
    case YAML::NodeType::Sequence: {
      if (!is_list) return FileError(where, "expected one value, got a list");
      std::vector<std::string> values;
      for (const YAML::Node& item : value) {
        if (!item.IsScalar()) return FileError(where, "expected a list of plain values");
        values.push_back(item.Scalar());
      }
      if (values.empty()) return FileError(where, "expected at least one value, got an empty list");
      return values;
    }
    case YAML::NodeType::Map:
      return FileError(where, "expected a value, got a map; keys are not nested");
    case YAML::NodeType::Null:
    case YAML::NodeType::Undefined:
      break;
  }
  return FileError(where, "has no value");
}

Result<Setting> SettingOf(const YAML::Node& key, const YAML::Node& value, const std::string& path,
                          const std::vector<FlagSpec>& table) {
  const std::string line = fmt::format("{}:{}", path, key.Mark().line + 1);
  if (!key.IsScalar()) return FileError(line, "expected a key, got a list or a map");
  const std::string where = fmt::format("{}: {}", line, key.Scalar());
  std::string name = key.Scalar();
  std::replace(name.begin(), name.end(), '_', '-');
  if (name == "config") return FileError(where, "a configuration file cannot name another");
  const FlagSpec* spec = FindFlag(table, name);
  if (spec == nullptr) return UnknownKey(where, name, table);
  auto values = ValuesOf(value, *spec, where);
  if (!values) return tl::unexpected<Status>(std::move(values).error());
  return Setting{name, *std::move(values), where};
}

Result<std::vector<Setting>> SettingsOf(const YAML::Node& root, const std::string& path,
                                        const std::vector<FlagSpec>& table) {
  std::vector<Setting> settings;
  if (root.IsNull()) return settings;  // nothing but comments
  if (!root.IsMap()) return FileError(path, "expected lines of 'name: value'");
  for (const auto& entry : root) {
    auto setting = SettingOf(entry.first, entry.second, path, table);
    if (!setting) return tl::unexpected<Status>(std::move(setting).error());
    const bool is_repeated = std::any_of(settings.begin(), settings.end(),
                                         [&](const Setting& s) { return s.name == setting->name; });
    if (is_repeated) return FileError(setting->where, "given twice");
    settings.push_back(*std::move(setting));
  }
  return settings;
}

}  // namespace

Result<std::vector<Setting>> ReadConfigFile(const std::string& path,
                                            const std::vector<FlagSpec>& table) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return FileError(path, "cannot open the configuration file");
  std::string text(kConfigFileBytesMax + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) return FileError(path, "cannot read the configuration file");
  text.resize(static_cast<size_t>(file.gcount()));
  return ParseConfigText(text, path, table);
}

Result<std::vector<Setting>> ParseConfigText(const std::string& text, const std::string& path,
                                             const std::vector<FlagSpec>& table) {
  if (text.size() > kConfigFileBytesMax) {
    return FileError(path, fmt::format("larger than the {} bytes allowed", kConfigFileBytesMax));
  }
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(text);
    if (documents.size() > 1) return FileError(path, "expected one YAML document, got several");
    if (documents.empty()) return std::vector<Setting>();
    return SettingsOf(documents[0], path, table);
  } catch (const YAML::Exception& error) {
    return FileError(fmt::format("{}:{}", path, error.mark.line + 1),
                     fmt::format("not YAML: {}", error.msg));
  }
}

}  // namespace kvs
