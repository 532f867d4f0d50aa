// The texts of --help and --help-all.
#pragma once

#include <string>
#include <vector>

#include "config/flag.h"

namespace kvs {

// Flags under the headings of their groups; `all` adds those that are seldom needed.
std::string FlagHelp(const std::vector<FlagSpec>& table, bool all);

}  // namespace kvs
