// kvserve bench: make the requests, send them, report.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "client/bench_load.h"
#include "client/bench_report.h"
#include "client/bench_workload.h"
#include "client/client.h"

namespace kvs {
namespace {

int BenchFailed(const Status& status) {
  fmt::print(stderr, "kvserve bench: {}\n", status.message());
  return ExitCodeOf(status.code());
}

// One line on a terminal, rewritten in place; nothing in a log.
void ShowProgress(size_t done, size_t failed, size_t total) {
  if (isatty(STDERR_FILENO) == 0) return;
  fmt::print(stderr, "\r{} of {} requests{}\x1b[K{}", done, total,
             failed > 0 ? fmt::format(", {} failed", failed) : "", done == total ? "\n" : "");
}

}  // namespace

int RunBench(const BenchCommand& command) {
  const auto url = ParseUrl(command.url);
  if (!url) return BenchFailed(url.error());
  CompletionsApi api(*url, command.api_key);
  const auto workload = MakeWorkload(command, &api);
  if (!workload) return BenchFailed(workload.error());

  const BenchTarget target{*url, command.api_key, command.concurrency};
  const size_t total = workload->asks.size();
  const BenchRun run = RunWorkload(
      target, *workload, [&](size_t done, size_t failed) { ShowProgress(done, failed, total); });

  const BenchFigures figures = FiguresOf(run);
  const std::string report = command.json ? BenchJson(command, *workload, figures)
                                          : BenchText(command, *workload, figures);
  std::fwrite(report.data(), 1, report.size(), stdout);
  std::fflush(stdout);
  return figures.completed == total ? 0 : 1;
}

}  // namespace kvs
