// argv against a table of flags. The only door to CLI11.
#pragma once

#include <vector>

#include "config/flag.h"
#include "kvserve/status.h"

namespace kvs {

struct Arguments {
  std::vector<Setting> settings;  // one per flag that was given, in the table's order
  bool help = false;              // --help or -h
  bool help_all = false;
  bool version = false;
};

// Reads argv[first, argc). An argument without "--" is a value for `positional`, a flag of the
// table. kInvalidArgument for what the table does not know.
Result<Arguments> ReadArguments(int first, int argc, const char* const* argv,
                                const std::vector<FlagSpec>& table, const char* positional);

}  // namespace kvs
