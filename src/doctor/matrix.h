// The isolation matrix: four servers, one after the other, that differ in two flags alone.
#pragma once

#include <array>
#include <filesystem>
#include <string>
#include <vector>

#include "config/config.h"
#include "doctor/cell.h"
#include "doctor/device_probe.h"
#include "doctor/interrupt.h"
#include "doctor/matrix_verdict.h"
#include "doctor/model_checks.h"

namespace kvs {

struct MatrixReport {
  std::array<CellPlan, 4> plans;
  std::vector<CellRequest> requests;
  MatrixRules rules;
  CellResults cells;
  MatrixVerdict verdict;
};

// The flags of `kvserve` that name the device of the command; `kind` is the one it stands for.
std::vector<std::string> DeviceArguments(const DeviceOptions& device, DeviceKind kind);

class IsolationMatrix {
 public:
  // kInvalidArgument when the model's sequences are too short for the requests.
  static Result<IsolationMatrix> Make(const DoctorCommand& command, const CheckedModel& model,
                                      const ProbeReport& probe,
                                      const std::filesystem::path& log_dir);

  const std::array<CellPlan, 4>& plans() const { return report_.plans; }
  // Runs the cell, from 0. The verdict on its answers comes with Judge.
  const CellResult& Run(size_t cell, const Interrupt& interrupt);
  // After the last cell, or an interrupted one: those that did not run count as interrupted.
  const MatrixReport& Judge();

 private:
  IsolationMatrix(std::chrono::seconds timeout) : timeout_(timeout) {}

  std::chrono::seconds timeout_;
  size_t num_run_ = 0;
  MatrixReport report_;
};

}  // namespace kvs
