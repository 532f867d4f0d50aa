#include "doctor/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace kvs {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr std::array<const char*, 9> kFailureNames = {"none",        "crash",     "refused",
                                                      "hang",        "error",     "wrong text",
                                                      "missing hit", "false hit", "interrupted"};

const char* NameOf(CellFailure failure) { return kFailureNames[static_cast<size_t>(failure)]; }

OrderedJson TextOrNull(const std::string& text) {
  return text.empty() ? OrderedJson(nullptr) : OrderedJson(text);
}

OrderedJson CheckJson(const Check& check) {
  return {{"name", check.name},
          {"outcome", ToString(check.outcome)},
          {"finding", check.finding},
          {"fix", TextOrNull(check.fix)}};
}

OrderedJson DeviceJson(const ProbeReport& probe) {
  return {{"kind", ToString(probe.info.kind)},
          {"index", probe.info.index},
          {"name", probe.info.name},
          {"architecture", probe.info.architecture},
          {"wave_size", probe.info.wave_size},
          {"fp8_in_hardware", probe.info.has_fp8_convert},
          {"driver", TextOrNull(probe.info.driver)},
          {"kernel_driver", TextOrNull(probe.kernel_driver)},
          {"runtime", TextOrNull(probe.info.runtime)}};
}

std::string ArgumentOf(const CellPlan& plan, const char* flag) {
  const auto found = std::find(plan.arguments.begin(), plan.arguments.end(), flag);
  return found == plan.arguments.end() ? std::string() : *std::next(found);
}

OrderedJson CellJson(const CellPlan& plan, const CellResult& cell) {
  const bool failed = cell.failure != CellFailure::kNone;
  return {{"cell", plan.number},
          {"name", plan.name},
          {"kv_cache_dtype", ArgumentOf(plan, "--kv-cache-dtype")},
          {"enable_prefix_caching", plan.prefix_caching},
          {"outcome", failed ? "FAIL" : "OK"},
          {"failure", failed ? OrderedJson(NameOf(cell.failure)) : OrderedJson(nullptr)},
          {"what", TextOrNull(cell.what)},
          {"requests_answered", cell.answers.size() + cell.at_once.size()},
          {"start_seconds", cell.start_seconds},
          {"total_seconds", cell.total_seconds},
          {"log", plan.log.string()},
          {"arguments", plan.arguments}};
}

OrderedJson MatrixJson(const MatrixReport& matrix, const std::string& fp8_dtype) {
  OrderedJson json = {{"reading", ToString(matrix.verdict.reading)},
                      {"sentence", matrix.verdict.sentence},
                      {"fix", TextOrNull(matrix.verdict.fix)},
                      {"fp8_dtype", fp8_dtype},
                      {"rules",
                       {{"with_and_without_prefix_caching", matrix.rules.same_type.Describe()},
                        {"fp8_and_16_bit", matrix.rules.fp8.Describe()}}},
                      {"cells", OrderedJson::array()}};
  for (size_t i = 0; i < matrix.cells.size(); ++i) {
    json["cells"].push_back(CellJson(matrix.plans[i], matrix.cells[i]));
  }
  return json;
}

Check CellCheck(const MatrixReport& matrix, size_t i) {
  const CellPlan& plan = matrix.plans[i];
  const CellResult& cell = matrix.cells[i];
  const std::string name = fmt::format("cell {}", plan.number);
  if (cell.failure != CellFailure::kNone) {
    return Fail(name, fmt::format("{}: {}: {}", plan.name, NameOf(cell.failure), cell.what),
                "see " + plan.log.string());
  }
  std::string finding = fmt::format("{}: {} requests, ready in {:.1f} s, {:.1f} s in all",
                                    plan.name, cell.answers.size() + cell.at_once.size(),
                                    cell.start_seconds, cell.total_seconds);
  uint64_t hits = 0;
  for (const CellAnswer& answer : cell.answers) hits += answer.cached_tokens;
  if (plan.prefix_caching) finding += fmt::format(", {} tokens from the cache", hits);
  if (i == 1) finding += "; text as cell 1, " + matrix.rules.fp8.Describe();
  if (i == 2) finding += "; text as cell 1, " + matrix.rules.same_type.Describe();
  if (i == 3) finding += "; text as cell 2, " + matrix.rules.same_type.Describe();
  return Ok(name, finding);
}

}  // namespace

std::string TextLine(const Check& check) {
  std::string line =
      fmt::format("{:<5} {:<14} {}", ToString(check.outcome), check.name, check.finding);
  if (!check.fix.empty()) line += " -> " + check.fix;
  std::replace(line.begin(), line.end(), '\n', ' ');
  return line + "\n";
}

std::vector<Check> MatrixChecks(const MatrixReport& matrix) {
  std::vector<Check> checks;
  for (size_t i = 0; i < matrix.cells.size(); ++i) checks.push_back(CellCheck(matrix, i));
  const MatrixVerdict& verdict = matrix.verdict;
  const std::string reading = fmt::format("{}: {}", ToString(verdict.reading), verdict.sentence);
  checks.push_back(verdict.reading == Reading::kPass ? Ok("matrix", reading)
                                                     : Fail("matrix", reading, verdict.fix));
  return checks;
}

Outcome OutcomeOf(const std::vector<Check>& checks) {
  Outcome worst = Outcome::kOk;
  for (const Check& check : checks) worst = std::max(worst, check.outcome);
  return worst;
}

std::string JsonReport(const DoctorReport& report, const std::string& version) {
  OrderedJson json;
  json["kvserve"] = version;
  json["outcome"] = ToString(OutcomeOf(report.checks));
  json["device"] = report.probe ? DeviceJson(*report.probe) : OrderedJson(nullptr);
  json["checks"] = OrderedJson::array();
  for (const Check& check : report.checks) json["checks"].push_back(CheckJson(check));
  json["matrix"] =
      report.matrix ? MatrixJson(*report.matrix, report.fp8_dtype) : OrderedJson(nullptr);
  json["record"] = TextOrNull(report.record);
  return json.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

}  // namespace kvs
