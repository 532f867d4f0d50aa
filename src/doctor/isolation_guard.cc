#include "doctor/isolation_guard.h"

#include <fmt/format.h>

namespace kvs {
namespace {

IsolationKey KeyOf(const IsolationQuestion& question) {
  return IsolationKeyOf(question.info, question.kernel_driver, question.version, question.kv_dtype,
                        question.mode);
}

std::string DoctorCommandOf(const IsolationQuestion& question) {
  std::string command = "kvserve doctor";
  if (!question.model.empty()) command += " --model " + question.model;
  command += fmt::format(" --device {}", ToString(question.info.kind));
  if (question.info.index != 0) command += fmt::format(" --device-index {}", question.info.index);
  if (question.kv_dtype == KvCacheDType::kF8E5M2) command += " --kv-cache-dtype fp8_e5m2";
  if (!question.mode.empty()) command += " " + question.mode;
  return command;
}

std::string WhatIsKnown(const IsolationQuestion& question, const Result<std::string>& state_dir) {
  if (!state_dir) return "what it found cannot be read: " + state_dir.error().message();
  const IsolationKey key = KeyOf(question);
  const auto record = ReadIsolationRecord(*state_dir, key);
  if (!record) {
    return fmt::format("it has not been run here with driver {} and kvserve {} ({} is not there)",
                       key.driver.empty() ? "unknown" : key.driver, key.version,
                       IsolationRecordPath(*state_dir, key).string());
  }
  return fmt::format("it failed here on {}: {}", record->time, record->reading);
}

}  // namespace

bool IsRdna3(const DeviceInfo& info) { return info.architecture.compare(0, 5, "gfx11") == 0; }

bool IsAffectedPair(const DeviceInfo& info, KvCacheDType kv_dtype, bool enable_prefix_caching) {
  return IsRdna3(info) && IsFp8(kv_dtype) && enable_prefix_caching;
}

Result<void> CheckIsolation(const IsolationQuestion& question,
                            const Result<std::string>& state_dir) {
  if (!IsAffectedPair(question.info, question.kv_dtype, question.enable_prefix_caching)) return {};
  if (state_dir) {
    const auto record = ReadIsolationRecord(*state_dir, KeyOf(question));
    if (record && record->passed) return {};
  }
  return Error(
      Code::kUnavailable,
      fmt::format("--kv-cache-dtype {} with --enable-prefix-caching on {} ({}): this pair has "
                  "crashed servers on RDNA3, and `kvserve doctor` has not passed on this machine; "
                  "{}. Run `{}`, or use one of the two flags alone; --skip-isolation-check starts "
                  "without the test",
                  ToString(question.kv_dtype), question.info.name, question.info.architecture,
                  WhatIsKnown(question, state_dir), DoctorCommandOf(question)),
      "--enable-prefix-caching");
}

}  // namespace kvs
