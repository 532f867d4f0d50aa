// What the doctor's isolation matrix found on this machine, kept for the daemon's start: one small
// JSON file for each device, driver, version of kvserve, FP8 type and way to compute.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "kvserve/device_info.h"
#include "kvserve/status.h"

namespace kvs {

// A result holds for this and nothing else: another driver or kvserve has to be tested anew.
struct IsolationKey {
  std::string device;        // its name
  std::string architecture;  // "gfx1100"
  std::string driver;        // version of interface and kernel module
  std::string version;       // of kvserve
  KvCacheDType fp8_dtype = KvCacheDType::kF8E4M3;
  std::string mode;  // the flags that choose other kernels or launches: "--batch-invariant"

  bool operator==(const IsolationKey&) const = default;
};

struct IsolationRecord {
  IsolationKey key;
  bool passed = false;
  std::string reading;  // of the four cells, one sentence
  std::string model;
  std::string time;  // UTC, ISO 8601
};

// `info` with --simulate-architecture applied: of a made-up device, so that no result for it is
// ever taken for that of a real one.
DeviceInfo WithSimulation(DeviceInfo info, const DeviceOptions& options);

// IsolationKey::mode of these options.
std::string IsolationModeOf(const DeviceOptions& options);

// `version` is that of kvserve.
IsolationKey IsolationKeyOf(const DeviceInfo& info, const std::string& kernel_driver,
                            const std::string& version, KvCacheDType fp8_dtype,
                            const std::string& mode);

// The record's file below `state_dir`.
std::filesystem::path IsolationRecordPath(const std::filesystem::path& state_dir,
                                          const IsolationKey& key);

// Replaces the record of its key in one step: a reader sees the old one or the new one, also after
// a crash. Makes the directory. kOsError.
Result<void> WriteIsolationRecord(const std::filesystem::path& state_dir,
                                  const IsolationRecord& record);

// Empty when there is none for the key, or the file is damaged or of another key.
std::optional<IsolationRecord> ReadIsolationRecord(const std::filesystem::path& state_dir,
                                                   const IsolationKey& key);

}  // namespace kvs
