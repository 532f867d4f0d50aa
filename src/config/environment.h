// KVSERVE_* variables. The only reader of the environment.
#pragma once

#include <string>
#include <vector>

#include "config/flag.h"
#include "kvserve/status.h"

namespace kvs {

// Every variable of `environment` (as `environ`: null-terminated NAME=VALUE) that starts with
// KVSERVE_. Lists are separated by commas. kConfigError for a name the table does not have.
Result<std::vector<Setting>> ReadEnvironment(const char* const* environment,
                                             const std::vector<FlagSpec>& table);

// This process's variables.
const char* const* ProcessEnvironment();

}  // namespace kvs
