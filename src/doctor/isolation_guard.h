// Whether the daemon may start with FP8 and prefix caching at once: on RDNA3 that pair has killed
// other servers (docs/amd.md), so it has to be seen working on the machine first.
#pragma once

#include <string>

#include "doctor/isolation_record.h"
#include "kvserve/device_info.h"
#include "kvserve/dtype.h"
#include "kvserve/options.h"
#include "kvserve/status.h"

namespace kvs {

// RDNA3 and 3.5: every gfx11 chip.
bool IsRdna3(const DeviceInfo& info);
bool IsAffectedPair(const DeviceInfo& info, KvCacheDType kv_dtype, bool enable_prefix_caching);

struct IsolationQuestion {
  DeviceInfo info;
  std::string kernel_driver;
  std::string version;  // of kvserve
  KvCacheDType kv_dtype = KvCacheDType::kBf16;
  bool enable_prefix_caching = false;
  std::string mode;   // IsolationModeOf the daemon's options
  std::string model;  // as the user names it, for the command in the message; may be empty
};

// kUnavailable names the pair, what the doctor found here so far, and its command. `state_dir` as
// ReadStateDir says it.
Result<void> CheckIsolation(const IsolationQuestion& question,
                            const Result<std::string>& state_dir);

}  // namespace kvs
