// How far a calibration came, on disk: what it takes to go on after it was interrupted.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "kvserve/status.h"
#include "model/kv_stats.h"

namespace kvs {

struct CalibrationState {
  std::string job;  // what the statistics are of: model, dataset, cut; one line
  uint64_t num_samples_done = 0;
  uint64_t num_tokens_done = 0;
  KvStatistics statistics;
};

// Replaces the file as a whole: a crash leaves the old one or the new one. kOsError.
Result<void> SaveCalibrationState(const std::filesystem::path& path, const CalibrationState& state);

// Empty when there is no file, or it is of another job or shape, or damaged: then the calibration
// begins anew. `fresh` gives job and shape.
std::optional<CalibrationState> LoadCalibrationState(const std::filesystem::path& path,
                                                     const CalibrationState& fresh);

}  // namespace kvs
