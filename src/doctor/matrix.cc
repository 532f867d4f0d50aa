#include "doctor/matrix.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "doctor/passages.h"

namespace kvs {
namespace {

constexpr std::array<const char*, 4> kCellNames = {"neither", "FP8 alone", "prefix caching alone",
                                                   "both"};
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

std::vector<std::string> CommonArguments(const DoctorCommand& command, const CheckedModel& model,
                                         DeviceKind kind) {
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
  const bool on_gpu = kind != DeviceKind::kCpu;
  if (on_gpu && model.config->checkpoint_dtype == DType::kF32) {
    arguments.insert(arguments.end(), {"--dtype", "bfloat16"});
  }
  const auto device = DeviceArguments(command.device, kind);
  arguments.insert(arguments.end(), device.begin(), device.end());
  return arguments;
}

std::array<CellPlan, 4> PlanCells(const DoctorCommand& command, const CheckedModel& model,
                                  DeviceKind kind, const std::filesystem::path& log_dir) {
  std::array<CellPlan, 4> plans;
  const bool f16 = model.config->checkpoint_dtype == DType::kF16;
  const KvCacheDType wide = f16 ? KvCacheDType::kF16 : KvCacheDType::kBf16;
  for (uint32_t i = 0; i < plans.size(); ++i) {
    CellPlan& plan = plans[i];
    plan.number = i + 1;
    plan.name = kCellNames[i];
    plan.fp8 = i % 2 == 1;
    plan.prefix_caching = i >= 2;
    plan.log = log_dir / fmt::format("cell{}.log", plan.number);
    plan.arguments = CommonArguments(command, model, kind);
    plan.arguments.insert(
        plan.arguments.end(),
        {"--kv-cache-dtype", std::string(ToString(plan.fp8 ? command.fp8_dtype : wide)),
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
  matrix.report_.rules = {SameTypeCloseness(invariant), Fp8Closeness(command.fp8_dtype)};
  return matrix;
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
  JudgeCells(report_.requests, report_.rules, report_.cells);
  report_.verdict = ReadMatrix(report_.cells);
  return report_;
}

}  // namespace kvs
