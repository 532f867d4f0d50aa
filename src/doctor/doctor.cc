#include "doctor/doctor.h"

#include <fmt/format.h>
#include <stdlib.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iterator>
#include <optional>
#include <system_error>

#include "config/environment.h"
#include "config/kv_pool.h"
#include "doctor/child_process.h"
#include "doctor/isolation_record.h"
#include "doctor/machine_checks.h"
#include "doctor/report.h"
#include "hub/model_source.h"
#include "model/model.h"

namespace kvs {
namespace {

namespace fs = std::filesystem;

std::string Now() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", utc.tm_year + 1900, utc.tm_mon + 1,
                     utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec);
}

// The end of a log, as one line.
std::string LastLine(const fs::path& log) {
  std::ifstream file(log);
  std::string last;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty()) last = line;
  }
  return last;
}

// The directory of the children's logs. One that the doctor made is removed again, but where a log
// may explain a failure.
class LogDir {
 public:
  static Result<LogDir> Make(const std::string& asked) {
    std::error_code error;
    if (!asked.empty()) {
      fs::create_directories(asked, error);
      if (!error) return LogDir(fs::absolute(asked), true);
      return Error(Code::kOsError, fmt::format("--log-dir: '{}': {}", asked, error.message()));
    }
    std::string pattern = (fs::temp_directory_path(error) / "kvserve-doctor-XXXXXX").string();
    if (!error && mkdtemp(pattern.data()) != nullptr) return LogDir(pattern, false);
    return Error(
        Code::kOsError,
        fmt::format("cannot make a directory for logs, '{}': {}; --log-dir names another", pattern,
                    error ? error.message() : std::generic_category().message(errno)));
  }
  ~LogDir() {
    std::error_code error;
    if (!keep_ && !path_.empty()) fs::remove_all(path_, error);
  }
  LogDir(LogDir&& other) noexcept : path_(std::move(other.path_)), keep_(other.keep_) {
    other.path_.clear();
  }
  LogDir& operator=(LogDir&&) = delete;

  const fs::path& path() const { return path_; }
  void Keep() { keep_ = true; }

 private:
  LogDir(fs::path path, bool keep) : path_(std::move(path)), keep_(keep) {}

  fs::path path_;
  bool keep_;
};

class Doctor {
 public:
  Doctor(const DoctorCommand& command, LogDir logs) : command_(command), logs_(std::move(logs)) {}

  int Run() {
    model_ = CheckModel(command_.model, command_.revision);
    Add(std::move(model_.checks));
    {
      const Interrupt interrupt;  // what was fetched from the Hub could be interrupted at any time
      Examine(interrupt);
      if (interrupt.signal() != 0) {
        if (!command_.json) std::fprintf(stderr, "kvserve doctor: interrupted\n");
        return 128 + interrupt.signal();
      }
    }
    const Outcome outcome = OutcomeOf(report_.checks);
    if (outcome == Outcome::kFail) logs_.Keep();
    if (command_.json) {
      Write(JsonReport(report_, KVS_VERSION));
    } else {
      Write(fmt::format("{}\n", ToString(outcome)));
    }
    return outcome == Outcome::kFail ? 1 : 0;
  }

 private:
  void Write(const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }

  // To a person who waits.
  void Say(const std::string& text) {
    if (isatty(STDERR_FILENO) == 1) std::fprintf(stderr, "%s\n", text.c_str());
  }

  void Add(Check check) {
    if (!command_.json) Write(TextLine(check));
    report_.checks.push_back(std::move(check));
  }
  void Add(std::vector<Check> checks) {
    for (Check& check : checks) Add(std::move(check));
  }

  void Examine(const Interrupt& interrupt) {
    if (!Probe(interrupt) || interrupt.signal() != 0) return;
    Add(CheckDevice(*report_.probe));
    if (model_.config && model_.weights != nullptr) {
      Add(CheckMemory(*report_.probe, *model_.config, model_.weight_bytes, AvailableMemoryBytes()));
    }
    Add(CheckPort(command_.host, command_.port));
    if (!command_.matrix) return;
    if (!model_.usable()) {
      Add(Fail("matrix", "cannot run without a model that can be served",
               "see the lines about the model"));
      return;
    }
    RunMatrix(interrupt);
  }

  // Opens the device in a process of its own. False when that showed no device.
  bool Probe(const Interrupt& interrupt) {
    std::vector<std::string> arguments = {"doctor", "--probe", "--block-size",
                                          std::to_string(command_.block_size)};
    if (model_.config) arguments.insert(arguments.end(), {"--model", model_.dir.string()});
    const auto device = DeviceArguments(command_.device, command_.device.device);
    arguments.insert(arguments.end(), device.begin(), device.end());
    const fs::path out = logs_.path() / "probe.json", log = logs_.path() / "probe.log";
    const std::string see = "see " + log.string() + "; try another driver, or --device cpu";
    auto child = ChildProcess::Start(arguments, {out, log});
    if (!child) {
      Add(Fail("device", child.error().message(), "end what else runs, and try again"));
      return false;
    }
    const auto deadline =
        std::chrono::steady_clock::now() + std::chrono::seconds(command_.timeout_s);
    std::optional<ChildEnd> end;
    while (!end && interrupt.signal() == 0 && std::chrono::steady_clock::now() < deadline) {
      end = child->WaitFor(std::chrono::milliseconds(50));
    }
    if (!end) {
      child->Kill();
      if (interrupt.signal() != 0) return false;
      Add(Fail("device",
               fmt::format("opening and testing it took more than {} s", command_.timeout_s), see));
      return false;
    }
    return ReadProbe(*end, out, log, see);
  }

  bool ReadProbe(const ChildEnd& end, const fs::path& out, const fs::path& log,
                 const std::string& see) {
    if (end.by_signal) {
      Add(Fail("device",
               fmt::format("the process that opened and tested it {}: {}", end.Describe(),
                           LastLine(log)),
               see));
      return false;
    }
    std::ifstream file(out);
    auto probe = ParseProbe({std::istreambuf_iterator<char>(file), {}});
    if (!probe) {
      const bool said = probe.error().code() == Code::kUnavailable;
      Add(Fail("device", probe.error().message(),
               said ? "do what the message says, or use --device cpu" : see));
      return false;
    }
    report_.probe = *std::move(probe);
    return true;
  }

  void RunMatrix(const Interrupt& interrupt) {
    auto matrix = IsolationMatrix::Make(command_, model_, *report_.probe, logs_.path());
    if (!matrix) {
      Add(Fail("matrix", matrix.error().message(), "name another model"));
      return;
    }
    report_.fp8_dtype = ToString(command_.fp8_dtype);
    if (matrix->reference_plan()) {
      Say("running the reference: " + matrix->reference_plan()->name);
      matrix->RunReference(interrupt);
    }
    for (size_t cell = 0; cell < matrix->plans().size() && interrupt.signal() == 0; ++cell) {
      const CellPlan& plan = matrix->plans()[cell];
      Say(fmt::format("running cell {} of 4: {}", plan.number, plan.name));
      matrix->Run(cell, interrupt);
    }
    if (interrupt.signal() != 0) return;
    report_.matrix = matrix->Judge();
    Add(MatrixChecks(*report_.matrix));
    KeepResult();
  }

  bool Passed() const {
    const ProbeReport& probe = *report_.probe;
    bool fp8 = probe.fp8_error.empty();
    for (const Fp8SelfTestReport& report : probe.fp8) fp8 = fp8 && report.num_failed == 0;
    return fp8 && report_.matrix->verdict.reading == Reading::kPass;
  }

  // For the daemon's start. A fault of a test's says nothing of a real device.
  void KeepResult() {
    if (!command_.inject_faults.empty() && command_.device.simulate_architecture.empty()) return;
    const char* name = "record";
    const auto state_dir = ReadStateDir(ProcessEnvironment());
    const DeviceInfo info = WithSimulation(report_.probe->info, command_.device);
    const IsolationRecord record = {
        IsolationKeyOf(info, report_.probe->kernel_driver, KVS_VERSION, command_.fp8_dtype,
                       IsolationModeOf(command_.device)),
        Passed(),
        fmt::format("{}: {}", ToString(report_.matrix->verdict.reading),
                    report_.matrix->verdict.sentence),
        model_.dir.string(), Now()};
    Result<void> kept =
        state_dir ? WriteIsolationRecord(*state_dir, record) : tl::unexpected(state_dir.error());
    if (!kept) {
      Add(Warn(name, kept.error().message(),
               "set XDG_STATE_HOME to a directory that can be written"));
      return;
    }
    report_.record = IsolationRecordPath(*state_dir, record.key).string();
    Add(Ok(name,
           fmt::format("{}, kept in {}", record.passed ? "passed" : "failed", report_.record)));
  }

  const DoctorCommand& command_;
  LogDir logs_;
  CheckedModel model_;
  DoctorReport report_;
};

// `kvserve doctor --probe`.
int RunProbe(const DoctorCommand& command) {
  std::optional<ModelConfig> config;
  if (!command.model.empty()) {
    const auto source = ModelSource::Open(command.model, command.revision, ModelFiles::kConfig,
                                          ProcessEnvironment());
    const auto read = source ? ReadModelConfig(source->dir())
                             : Result<ModelConfig>(tl::unexpected(source.error()));
    if (read) config = *read;
  }
  const auto report = ProbeDevice(command.device, config ? &*config : nullptr, command.block_size);
  const std::string json = ProbeJson(report);
  std::fwrite(json.data(), 1, json.size(), stdout);
  std::fflush(stdout);
  return report ? 0 : ExitCodeOf(report.error().code());
}

}  // namespace

int RunDoctor(const DoctorCommand& command) {
  if (command.probe) return RunProbe(command);
  auto logs = LogDir::Make(command.log_dir);
  if (!logs) {
    std::fprintf(stderr, "kvserve doctor: %s\n", logs.error().message().c_str());
    return ExitCodeOf(logs.error().code());
  }
  return Doctor(command, *std::move(logs)).Run();
}

}  // namespace kvs
