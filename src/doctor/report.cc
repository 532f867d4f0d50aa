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

OrderedJson DistanceJson(const std::optional<Distance>& distance) {
  if (!distance) return nullptr;
  return {{"mean_nats", distance->mean_delta}, {"gap_nats", distance->gap}};
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
                        {"fp8_and_16_bit", matrix.rules.fp8.Describe()},
                        {"reference", matrix.rules.reference.Describe()}}},
                      {"reference", nullptr},
                      {"cells", OrderedJson::array()}};
  for (size_t i = 0; i < matrix.cells.size(); ++i) {
    json["cells"].push_back(CellJson(matrix.plans[i], matrix.cells[i]));
    json["cells"].back()["distance"] = DistanceJson(matrix.distances[i]);
  }
  if (matrix.reference_plan) {
    json["reference"] = CellJson(*matrix.reference_plan, matrix.reference);
  }
  return json;
}

constexpr std::array<const char*, 4> kHeldAgainst = {"the reference", "cell 1", "cell 1", "cell 2"};

const Closeness& RuleOf(const MatrixReport& matrix, size_t i) {
  return i == 0 ? matrix.rules.reference : i == 1 ? matrix.rules.fp8 : matrix.rules.same_type;
}

// "; text as cell 1: 0.012 nats a token (allowed 0.4), 0.1 where texts part (allowed 1.5)"
std::string TextAs(const MatrixReport& matrix, size_t i) {
  const auto& distance = matrix.distances[i];
  if (!distance) return {};
  const Closeness& rule = RuleOf(matrix, i);
  if (rule.exact) return fmt::format("; text as {}, bit for bit", kHeldAgainst[i]);
  return fmt::format(
      "; text as {}: {:.3f} nats a token (allowed {}), {:.2f} where texts part "
      "(allowed {})",
      kHeldAgainst[i], distance->mean_delta, rule.mean_delta_max, distance->gap, rule.gap_max);
}

Check CellCheck(const MatrixReport& matrix, size_t i) {
  const CellPlan& plan = matrix.plans[i];
  const CellResult& cell = matrix.cells[i];
  const std::string name = fmt::format("cell {}", plan.number);
  if (cell.failure != CellFailure::kNone) {
    return Fail(name, fmt::format("{}: {}: {}", plan.name, NameOf(cell.failure), cell.what),
                "see " + plan.log.string());
  }
  uint64_t hits = 0;
  for (const CellAnswer& answer : cell.answers) hits += answer.cached_tokens;
  return Ok(name, fmt::format("{}: {} requests in {:.1f} s{}{}", plan.name,
                              cell.answers.size() + cell.at_once.size(), cell.total_seconds,
                              plan.prefix_caching ? fmt::format(", {} tokens from the cache", hits)
                                                  : std::string(),
                              TextAs(matrix, i)));
}

Check ReferenceCheck(const MatrixReport& matrix) {
  const char* name = "reference";
  const CellPlan& plan = *matrix.reference_plan;
  const CellResult& reference = matrix.reference;
  if (reference.failure != CellFailure::kNone) {
    return Warn(name,
                fmt::format("{}: {}: {}", plan.name, NameOf(reference.failure), reference.what),
                "see " + plan.log.string() + "; the cells are held against each other alone");
  }
  return Ok(name, fmt::format("{}: {} requests in {:.1f} s", plan.name,
                              reference.answers.size() + reference.at_once.size(),
                              reference.total_seconds));
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
  if (matrix.reference_plan) checks.push_back(ReferenceCheck(matrix));
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
