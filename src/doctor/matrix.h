// The isolation matrix: four servers, one after the other, that differ in two flags alone.
#pragma once

#include <array>
#include <filesystem>
#include <optional>
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
  // The same requests to a server of other code: the CPU for a GPU, portable code for the CPU.
  // Empty for a model that is too large for that.
  std::optional<CellPlan> reference_plan;
  CellResult reference;
  CellResults cells;
  MatrixVerdict verdict;
  // From what each cell is held against: the reference, cell 1, cell 1, cell 2. Empty where one of
  // the two has failed, or there is none.
  std::array<std::optional<Distance>, 4> distances;
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
  const std::optional<CellPlan>& reference_plan() const { return report_.reference_plan; }
  void RunReference(const Interrupt& interrupt);
  // Runs the cell, from 0. The verdict on its answers comes with Judge.
  const CellResult& Run(size_t cell, const Interrupt& interrupt);
  // After the last cell, or an interrupted one: those that did not run count as interrupted.
  const MatrixReport& Judge();

 private:
  explicit IsolationMatrix(std::chrono::seconds timeout) : timeout_(timeout) {}

  std::chrono::seconds timeout_;
  size_t num_run_ = 0;
  MatrixReport report_;
};

}  // namespace kvs
