// The flags of the doctor.
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "config/flags.h"

namespace kvs {
namespace {

using C = DoctorCommand;
using DoctorTable = std::vector<Flag<C>>;

// "4:crash"
Result<CellFault> ParseCellFault(const std::string& text) {
  const std::string allowed = "CELL:FAULT with a cell from 1 to 4, as 4:crash";
  const size_t colon = text.find(':');
  if (colon == std::string::npos) return ExpectedError(allowed, text);
  const auto cell = ParseWhole(text.substr(0, colon), 1, 4);
  if (!cell) return ExpectedError(allowed, text);
  const auto fault = ParseChoice<std::optional<Fault>>(text.substr(colon + 1), FaultChoices());
  if (!fault) return tl::unexpected<Status>(fault.error());
  if (!*fault)
    return ExpectedError("crash, crash-on-hit, hang, wrong-text or no-hit after the cell", text);
  return CellFault{static_cast<uint32_t>(*cell), **fault};
}

Flag<C> FaultsFlag() {
  FlagSpec spec = {"inject-fault",
                   FlagGroup::kGeneral,
                   "CELL:FAULT",
                   "For tests: let the server of this cell (1 to 4) serve wrongly, by crash, "
                   "crash-on-hit, hang, wrong-text or no-hit",
                   kCommon,
                   FlagKind::kSeveral};
  auto set = [](C& command, const std::vector<std::string>& values) -> Result<void> {
    command.inject_faults.clear();
    for (const std::string& value : values) {
      const auto fault = ParseCellFault(value);
      if (!fault) return tl::unexpected<Status>(fault.error());
      command.inject_faults.push_back(*fault);
    }
    return {};
  };
  return {std::move(spec), std::move(set)};
}

void AddModelFlags(DoctorTable& table) {
  table.push_back(TextFlag<C>(
      {"model", FlagGroup::kModel, "MODEL",
       "Model directory, or org/name on the Hugging Face Hub; the bundled model when none is named",
       kCommon},
      At(&C::model), IsNotEmpty, "a model directory or org/name"));
  table.push_back(
      TextFlag<C>({"revision", FlagGroup::kModel, "REVISION",
                   "Branch, tag or commit of a model on the Hub; main when none", kCommon},
                  At(&C::revision), IsRevision, kRevisionAllowed));
  table.push_back(
      ChoiceFlag<C, KvCacheDType>({"kv-cache-dtype", FlagGroup::kKvCache, "TYPE",
                                   "The FP8 type to test: fp8 (= fp8_e4m3), fp8_e5m2", kCommon},
                                  At(&C::fp8_dtype),
                                  {{"fp8", KvCacheDType::kF8E4M3},
                                   {"fp8_e4m3", KvCacheDType::kF8E4M3},
                                   {"fp8_e5m2", KvCacheDType::kF8E5M2}}));
  table.push_back(ChoiceFlag<C, uint32_t>(
      {"block-size", FlagGroup::kKvCache, "TOKENS", "Tokens per KV block: 16, 32 or 64", kCommon},
      At(&C::block_size), {{"16", 16}, {"32", 32}, {"64", 64}}));
}

void AddDeviceFlags(DoctorTable& table) {
  const FlagGroup group = FlagGroup::kDevice;
  table.push_back(ChoiceFlag<C, DeviceKind>(
      {"device", group, "KIND", "What to compute on: auto, cpu, cuda, hip", kCommon},
      At(&C::device, &DeviceOptions::device),
      {{"auto", DeviceKind::kAuto},
       {"cpu", DeviceKind::kCpu},
       {"cuda", DeviceKind::kCuda},
       {"hip", DeviceKind::kHip}}));
  table.push_back(WholeFlag<C>({"device-index", group, "N", "Which GPU, from 0", kCommon},
                               At(&C::device, &DeviceOptions::device_index), 0, 63));
  table.push_back(SwitchFlag<C>({"batch-invariant", group, nullptr,
                                 "Test the mode whose bits never depend on the batch", kCommon},
                                At(&C::device, &DeviceOptions::batch_invariant)));
  table.push_back(
      SwitchFlag<C>({"enforce-eager", group, nullptr, "Test without recorded graphs", kCommon},
                    At(&C::device, &DeviceOptions::enforce_eager)));
  table.push_back(WholeFlag<C>({"threads", group, "N", "CPU threads; 0: one per core", kCommon},
                               At(&C::device, &DeviceOptions::num_threads), 0, 1024));
  table.push_back(InstructionSetFlag<C>(group, &C::device, kCommon));
  table.push_back(TextFlag<C>(
      {"simulate-architecture", group, "NAME",
       "For tests: keep the result as that of a device of this architecture, as gfx1100", kCommon},
      At(&C::device, &DeviceOptions::simulate_architecture), IsNotEmpty,
      "the name of an architecture"));
}

}  // namespace

std::vector<Flag<DoctorCommand>> DoctorFlags() {
  DoctorTable table;
  AddModelFlags(table);
  AddDeviceFlags(table);
  const FlagGroup group = FlagGroup::kGeneral;
  table.push_back(TextFlag<C>(
      {"host", FlagGroup::kHttp, "HOST", "Address that the daemon is to listen on", kCommon},
      At(&C::host), IsNotEmpty, "a host name or address"));
  table.push_back(WholeFlag<C>(
      {"port", FlagGroup::kHttp, "PORT", "Port that the daemon is to listen on", kCommon},
      At(&C::port), 0, 65535));
  table.push_back(SwitchFlag<C>(
      {"matrix", group, nullptr, "Start the four servers of the isolation matrix", kCommon},
      At(&C::matrix)));
  table.push_back(WholeFlag<C>({"timeout", group, "SECONDS",
                                "A server that needs longer to be ready, or to answer a request, "
                                "hangs",
                                kCommon},
                               At(&C::timeout_s), 1, 86400));
  table.push_back(TextFlag<C>({"log-dir", group, "DIR",
                               "Keep the servers' logs there; otherwise they are kept, in a "
                               "temporary directory, when one fails",
                               kCommon},
                              At(&C::log_dir), IsNotEmpty, "a directory"));
  table.push_back(SwitchFlag<C>({"probe", group, nullptr,
                                 "Only open the device, test FP8 on it and print JSON: the process "
                                 "that the doctor starts for these checks",
                                 kCommon},
                                At(&C::probe)));
  table.push_back(FaultsFlag());
  table.push_back(
      SwitchFlag<C>({"json", group, nullptr, "Print the report as JSON", kCommon}, At(&C::json)));
  return table;
}

}  // namespace kvs
