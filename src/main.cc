// kvserve: parse, bind, load, listen, drain. The process's table of contents.

#include <cstdio>
#include <exception>
#include <type_traits>
#include <variant>

#include "client/client.h"
#include "config/config.h"
#include "config/environment.h"
#include "device/open_backend.h"
#include "doctor/doctor.h"
#include "hub/model_source.h"
#include "kvserve/backend.h"
#include "model/model.h"
#include "quality/quality.h"
#include "serve.h"

namespace {

int Fail(const kvs::Status& status) {
  std::fprintf(stderr, "kvserve: %s\n", status.message().c_str());
  return kvs::ExitCodeOf(status.code());
}

int Print(const std::string& text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  return written && std::fflush(stdout) == 0 ? 0 : kvs::ExitCodeOf(kvs::Code::kOsError);
}

int Plan(const kvs::PlanCommand& command) {
  const auto source = kvs::ModelSource::Open(command.model, command.revision,
                                             kvs::ModelFiles::kConfig, kvs::ProcessEnvironment());
  if (!source) return Fail(source.error());
  const auto config = kvs::ReadModelConfig(source->dir());
  if (!config) return Fail(config.error());
  const auto report = kvs::RunPlan(command, *config);
  return report ? Print(*report) : Fail(report.error());
}

// Runs a command that computes, and prints its report.
template <class Command>
int Measure(const Command& command,
            kvs::Result<std::string> (*run)(const Command&, kvs::Backend&)) {
  const auto source = kvs::ModelSource::Open(command.model, command.revision,
                                             kvs::ModelFiles::kConfig, kvs::ProcessEnvironment());
  if (!source) return Fail(source.error());
  const auto config = kvs::ReadModelConfig(source->dir());
  if (!config) return Fail(config.error());
  const auto backend = kvs::OpenBackend({.device = command.device,
                                         .dtype = config->checkpoint_dtype,
                                         .cache_dir = kvs::CacheDirOf(kvs::ProcessEnvironment())});
  if (!backend) return Fail(backend.error());
  const auto report = run(command, **backend);
  return report ? Print(*report) : Fail(report.error());
}

int Run(const kvs::Command& command) {
  return std::visit(
      [](const auto& asked) {
        using T = std::decay_t<decltype(asked)>;
        if constexpr (std::is_same_v<T, kvs::ServeCommand>) return kvs::Serve(asked.options);
        if constexpr (std::is_same_v<T, kvs::CheckCacheCommand>) return kvs::RunCheckCache(asked);
        if constexpr (std::is_same_v<T, kvs::BenchCommand>) return kvs::RunBench(asked);
        if constexpr (std::is_same_v<T, kvs::PlanCommand>) return Plan(asked);
        if constexpr (std::is_same_v<T, kvs::CalibrateCommand>) {
          return Measure(asked, kvs::RunCalibrate);
        }
        if constexpr (std::is_same_v<T, kvs::EvalCommand>) return Measure(asked, kvs::RunEval);
        if constexpr (std::is_same_v<T, kvs::DoctorCommand>) return kvs::RunDoctor(asked);
        if constexpr (std::is_same_v<T, kvs::PrintCommand>) return Print(asked.text);
      },
      command);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const auto command = kvs::ParseCommand(argc, argv);
    return command ? Run(*command) : Fail(command.error());
  } catch (const std::exception& error) {  // want of memory: all else is a Result
    std::fprintf(stderr, "kvserve: %s\n", error.what());
    return kvs::ExitCodeOf(kvs::Code::kOsError);
  }
}
