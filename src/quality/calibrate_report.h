// What calibrate prints.
#pragma once

#include <cstdint>
#include <string>

#include "config/config.h"
#include "model/kv_scales.h"
#include "quality/calibration_state.h"

namespace kvs {

struct CalibrateReport {
  KvScales scales;
  uint64_t num_tokens_computed = 0;  // in this run, in `seconds`
  double seconds = 0.0;
  double prefill_seconds = 0.0;  // of the same tokens without statistics; 0: not measured
};

std::string ObserverName(KvScaleFit observer);

// Per layer: the largest key and value, the scales, and the error of storing with them. With the
// observer minmax the error is that of the first 32768 tokens.
std::string CalibrateReportText(const CalibrateCommand& command, const CalibrationState& state,
                                const CalibrateReport& report);
std::string CalibrateReportJson(const CalibrateCommand& command, const CalibrationState& state,
                                const CalibrateReport& report);

}  // namespace kvs
