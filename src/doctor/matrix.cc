#include "doctor/matrix.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "doctor/passages.h"

namespace kvs {
namespace {

constexpr std::array<const char*, 4> kCellNames = {"neither", "FP8 alone", "prefix caching alone",
                                                   "both"};
// Of weights: what a CPU reads often enough in a minute.
constexpr uint64_t kReferenceBytesMax = uint64_t{1} << 30;
constexpr uint32_t kPoolTokens = 4096;
constexpr uint32_t kMaxNumSeqs = 8;
constexpr uint32_t kMaxBatchedTokens = 512;

// The name of --inject-fault.
const char* NameOf(Fault fault) {
  switch (fault) {
    case Fault::kCrash:
      return "crash";
    case Fault::kCrashOnHit:
      return "crash-on-hit";
    case Fault::kHang:
      return "hang";
    case Fault::kWrongText:
      return "wrong-text";
    case Fault::kNoHit:
      return "no-hit";
  }
  return "none";
}

// Enough tokens of the text, which is repeated where it is too short.
Result<std::vector<uint32_t>> TokensOf(const Tokenizer& tokenizer, std::string_view text,
                                       uint32_t wanted) {
  std::vector<uint32_t> tokens;
  while (tokens.size() < wanted) {
    const auto ids = tokenizer.Encode(text, {.add_special_tokens = tokens.empty()});
    if (!ids) return tl::unexpected(ids.error());
    if (ids->empty()) return Error(Code::kDataError, "the tokenizer makes no tokens of a text");
    for (const TokenId id : *ids) tokens.push_back(id.value);
  }
  return tokens;
}

std::vector<std::string> CommonArguments(const DoctorCommand& command, const CheckedModel& model) {
  std::vector<std::string> arguments = {"serve",
                                        "--model",
                                        model.dir.string(),
                                        "--served-model-name",
                                        "doctor",
                                        "--host",
                                        "127.0.0.1",
                                        "--port",
                                        "0",
                                        "--log-format",
                                        "text",
                                        "--skip-isolation-check",
                                        "--block-size",
                                        std::to_string(command.block_size),
                                        "--kv-cache-tokens",
                                        std::to_string(kPoolTokens),
                                        "--max-model-len",
                                        std::to_string(PositionsPerRequest(command.block_size)),
                                        "--max-num-seqs",
                                        std::to_string(kMaxNumSeqs),
                                        "--max-num-batched-tokens",
                                        std::to_string(kMaxBatchedTokens)};
  if (model.config->checkpoint_dtype == DType::kF32) {
    arguments.insert(arguments.end(), {"--dtype", "bfloat16"});  // GPUs serve no float32
  }
  return arguments;
}

KvCacheDType WideDType(const CheckedModel& model) {
  const bool f16 = model.config->checkpoint_dtype == DType::kF16;
  return f16 ? KvCacheDType::kF16 : KvCacheDType::kBf16;
}

std::optional<CellPlan> PlanReference(const DoctorCommand& command, const CheckedModel& model,
                                      DeviceKind kind, const std::filesystem::path& log_dir) {
  if (model.weight_bytes > kReferenceBytesMax) return std::nullopt;
  CellPlan plan;
  plan.name = kind == DeviceKind::kCpu ? "portable code" : "the CPU";
  plan.log = log_dir / "reference.log";
  plan.arguments = CommonArguments(command, model);
  plan.arguments.insert(plan.arguments.end(),
                        {"--device", "cpu", "--kv-cache-dtype",
                         std::string(ToString(WideDType(model))), "--no-enable-prefix-caching"});
  if (kind == DeviceKind::kCpu) {
    plan.arguments.insert(plan.arguments.end(), {"--cpu-instruction-set", "portable"});
  }
  return plan;
}

std::array<CellPlan, 4> PlanCells(const DoctorCommand& command, const CheckedModel& model,
                                  DeviceKind kind, const std::filesystem::path& log_dir) {
  std::array<CellPlan, 4> plans;
  const auto device = DeviceArguments(command.device, kind);
  for (uint32_t i = 0; i < plans.size(); ++i) {
    CellPlan& plan = plans[i];
    plan.number = i + 1;
    plan.name = kCellNames[i];
    plan.fp8 = i % 2 == 1;
    plan.prefix_caching = i >= 2;
    plan.log = log_dir / fmt::format("cell{}.log", plan.number);
    plan.arguments = CommonArguments(command, model);
    plan.arguments.insert(plan.arguments.end(), device.begin(), device.end());
    const KvCacheDType dtype = plan.fp8 ? command.fp8_dtype : WideDType(model);
    plan.arguments.insert(
        plan.arguments.end(),
        {"--kv-cache-dtype", std::string(ToString(dtype)),
         plan.prefix_caching ? "--enable-prefix-caching" : "--no-enable-prefix-caching"});
    for (const CellFault& fault : command.inject_faults) {
      if (fault.cell != plan.number) continue;
      plan.arguments.insert(plan.arguments.end(), {"--inject-fault", NameOf(fault.fault)});
    }
  }
  return plans;
}

}  // namespace

std::vector<std::string> DeviceArguments(const DeviceOptions& device, DeviceKind kind) {
  std::vector<std::string> arguments = {"--device",
                                        std::string(ToString(kind)),
                                        "--device-index",
                                        std::to_string(device.device_index),
                                        "--threads",
                                        std::to_string(device.num_threads),
                                        "--cpu-instruction-set",
                                        device.cpu_instruction_set};
  if (device.batch_invariant) arguments.push_back("--batch-invariant");
  if (device.enforce_eager) arguments.push_back("--enforce-eager");
  return arguments;
}

Result<IsolationMatrix> IsolationMatrix::Make(const DoctorCommand& command,
                                              const CheckedModel& model, const ProbeReport& probe,
                                              const std::filesystem::path& log_dir) {
  const uint32_t positions = PositionsPerRequest(command.block_size);
  if (model.config->max_position_embeddings < positions) {
    return Error(Code::kInvalidArgument,
                 fmt::format("its requests take {} positions, but the model has {}", positions,
                             model.config->max_position_embeddings));
  }
  IsolationMatrix matrix(std::chrono::seconds(command.timeout_s));
  std::vector<std::vector<uint32_t>> texts;
  for (const std::string_view passage : kPassages) {
    auto tokens = TokensOf(*model.tokenizer, passage, TokensPerText(command.block_size));
    if (!tokens) return tl::unexpected(tokens.error());
    texts.push_back(*std::move(tokens));
  }
  const bool invariant = probe.info.kind == DeviceKind::kCpu || command.device.batch_invariant;
  matrix.report_.plans = PlanCells(command, model, probe.info.kind, log_dir);
  matrix.report_.requests = MakeCellRequests(texts, command.block_size);
  matrix.report_.rules = {SameTypeCloseness(invariant), Fp8Closeness(command.fp8_dtype),
                          SameTypeCloseness(false)};
  matrix.report_.reference_plan = PlanReference(command, model, probe.info.kind, log_dir);
  return matrix;
}

void IsolationMatrix::RunReference(const Interrupt& interrupt) {
  report_.reference = RunCell(*report_.reference_plan, report_.requests, timeout_, interrupt);
}

const CellResult& IsolationMatrix::Run(size_t cell, const Interrupt& interrupt) {
  CellResult& result = report_.cells[cell];
  result = RunCell(report_.plans[cell], report_.requests, timeout_, interrupt);
  num_run_ = cell + 1;
  return result;
}

const MatrixReport& IsolationMatrix::Judge() {
  for (size_t i = num_run_; i < report_.cells.size(); ++i) {
    report_.cells[i].failure = CellFailure::kInterrupted;
    report_.cells[i].what = "did not run";
  }
  const bool has_reference =
      report_.reference_plan && report_.reference.failure == CellFailure::kNone;
  const CellResult* reference = has_reference ? &report_.reference : nullptr;
  JudgeCells(report_.requests, report_.rules, reference, report_.cells);
  report_.verdict = ReadMatrix(report_.cells);
  const std::array<const CellResult*, 4> held_against = {reference, &report_.cells[0],
                                                         &report_.cells[0], &report_.cells[1]};
  for (size_t i = 0; i < report_.cells.size(); ++i) {
    const bool both = held_against[i] != nullptr &&
                      held_against[i]->failure == CellFailure::kNone &&
                      report_.cells[i].failure == CellFailure::kNone;
    if (both) report_.distances[i] = DistanceOf(held_against[i]->answers, report_.cells[i].answers);
  }
  return report_;
}

}  // namespace kvs
