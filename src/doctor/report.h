// The doctor's report, as lines and as JSON.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "doctor/check.h"
#include "doctor/device_probe.h"
#include "doctor/matrix.h"

namespace kvs {

// "FAIL  port           127.0.0.1:80: permission denied -> choose a --port from 1024 on"
std::string TextLine(const Check& check);

// The lines of the matrix: one for each cell, and the reading.
std::vector<Check> MatrixChecks(const MatrixReport& matrix);

struct DoctorReport {
  std::vector<Check> checks;           // those of the matrix included
  std::optional<ProbeReport> probe;    // empty: the device could not be opened
  std::optional<MatrixReport> matrix;  // empty: it did not run
  std::string fp8_dtype;               // of the matrix
  std::string record;                  // file that keeps the result; empty: it was not kept
};

// The worst of the checks.
Outcome OutcomeOf(const std::vector<Check>& checks);

// docs/doctor.md describes it.
std::string JsonReport(const DoctorReport& report, const std::string& version);

}  // namespace kvs
