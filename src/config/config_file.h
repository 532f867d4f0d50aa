// The YAML file of --config: one flat map of flag names to values. The only door to yaml-cpp.
#pragma once

#include <string>
#include <vector>

#include "config/flag.h"
#include "kvserve/status.h"

namespace kvs {

inline constexpr size_t kConfigFileBytesMax = 1 << 20;

// `path` names the file in messages, "PATH:LINE: KEY". kConfigError for what cannot be read, is not
// a flat map, or names what the table does not have.
Result<std::vector<Setting>> ReadConfigFile(const std::string& path,
                                            const std::vector<FlagSpec>& table);
Result<std::vector<Setting>> ParseConfigText(const std::string& text, const std::string& path,
                                             const std::vector<FlagSpec>& table);

}  // namespace kvs
