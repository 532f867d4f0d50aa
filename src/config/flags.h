// The tables of flags, one per command. Adding an option is one field in kvserve/options.h and one
// row here; the command line, KVSERVE_* variables, YAML keys and the help follow.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/config.h"
#include "config/flag.h"

namespace kvs {

// What `kvserve serve` is asked: the options, and the file that holds more of them.
struct ServeSettings : ServerOptions {
  std::string config_file;
};

// The values of --inject-fault.
std::vector<Choice<std::optional<Fault>>> FaultChoices();

// Words of the tables.
inline constexpr bool kCommon = true;
inline constexpr uint64_t kMaxTokens = 1u << 24;
inline bool IsNotEmpty(const std::string& text) { return !text.empty(); }

// How far the CPU kernels may go; every command that computes has it.
template <class Target>
Flag<Target> InstructionSetFlag(FlagGroup group, DeviceOptions Target::*device,
                                bool common = false) {
  return ChoiceFlag<Target, std::string>(
      {"cpu-instruction-set", group, "SET", "Highest to use: auto, amx, avx512, avx2, portable",
       common},
      At(device, &DeviceOptions::cpu_instruction_set),
      {{"auto", "auto"},
       {"amx", "amx"},
       {"avx512", "avx512"},
       {"avx2", "avx2"},
       {"portable", "portable"}});
}

std::vector<Flag<ServeSettings>> ServeFlags();
std::vector<Flag<CheckCacheCommand>> CheckCacheFlags();
std::vector<Flag<BenchCommand>> BenchFlags();
std::vector<Flag<PlanCommand>> PlanFlags();
std::vector<Flag<CalibrateCommand>> CalibrateFlags();
std::vector<Flag<EvalCommand>> EvalFlags();
std::vector<Flag<DoctorCommand>> DoctorFlags();

}  // namespace kvs
