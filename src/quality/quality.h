// The commands that measure keys and values instead of serving: calibrate finds the scales of an
// FP8 cache, eval says what a cache type and its scales cost.
#pragma once

#include <string>

#include "config/config.h"
#include "kvserve/backend.h"
#include "kvserve/status.h"

namespace kvs {

// Runs the dataset and writes the calibrated model directory. Returns the report for stdout;
// progress goes to the log and, on a terminal, to a bar. Interrupted, it goes on from a file beside
// the output directory when called again with the same model, dataset and cut.
Result<std::string> RunCalibrate(const CalibrateCommand& command, Backend& backend);

// Returns the report for stdout, as text or JSON, and writes the files asked for.
Result<std::string> RunEval(const EvalCommand& command, Backend& backend);

}  // namespace kvs
