#include "doctor/cell.h"

#include <fmt/format.h>

#include <csignal>
#include <fstream>
#include <thread>

#include "doctor/child_process.h"

namespace kvs {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kServerPollInterval(10);
constexpr milliseconds kEndGrace(2000);  // from a broken connection to the end of its process
constexpr std::chrono::seconds kStopLimit(30);

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The last line of a log that says what went wrong; empty when there is none.
std::string LastComplaint(const std::filesystem::path& log) {
  std::ifstream file(log);
  std::string found;
  for (std::string line; std::getline(file, line);) {
    for (const char* mark : {" error ", "check failed", "kvserve: "}) {
      if (line.find(mark) != std::string::npos) found = line;
    }
  }
  const size_t level = found.find(" error ");
  return level == std::string::npos ? found : found.substr(level + 7);
}

class CellRun {
 public:
  CellRun(const CellPlan& plan, const std::vector<CellRequest>& requests,
          std::chrono::seconds timeout, const Interrupt& interrupt)
      : plan_(plan), requests_(requests), timeout_(timeout), interrupt_(interrupt) {}

  CellResult Run() {
    auto child = ChildProcess::Start(plan_.arguments, {plan_.log, plan_.log});
    if (!child) {
      Fail(CellFailure::kRefused, "could not be started: " + child.error().message());
    } else if (const std::string address = WaitReady(*child); !address.empty()) {
      result_.start_seconds = SecondsSince(start_);
      if (Ask(*child, address)) Stop(*child);
    }
    result_.total_seconds = SecondsSince(start_);
    return std::move(result_);
  }

 private:
  void Fail(CellFailure failure, std::string what) {
    result_.failure = failure;
    result_.what = std::move(what);
  }

  void FailEnd(const ChildEnd& end, const std::string& when) {
    const std::string complaint = LastComplaint(plan_.log);
    const bool refused = !end.by_signal && result_.start_seconds == 0.0;
    Fail(refused ? CellFailure::kRefused : CellFailure::kCrash,
         fmt::format("{} {}{}{}", end.Describe(), when, complaint.empty() ? "" : ": ", complaint));
  }

  // Whether to give up: the user's wish, or the time.
  bool GiveUp(ChildProcess& child, Clock::duration so_far, const std::string& when) {
    if (interrupt_.signal() != 0) {
      child.Kill();
      Fail(CellFailure::kInterrupted, "was interrupted " + when);
      return true;
    }
    if (so_far < timeout_) return false;
    child.Kill();
    Fail(CellFailure::kHang, fmt::format("did nothing for {} s {}", timeout_.count(), when));
    return true;
  }

  std::string WaitReady(ChildProcess& child) {
    for (;;) {
      std::string address = ReadyAddress(plan_.log);
      if (!address.empty()) return address;
      if (const auto end = child.Poll()) {
        FailEnd(*end, "before it was ready");
        return {};
      }
      if (GiveUp(child, Clock::now() - start_, "before it was ready")) return {};
      std::this_thread::sleep_for(kServerPollInterval);
    }
  }

  std::string During(const CellProgress& progress) const {
    const size_t index = progress.request;
    return "during " + (index < requests_.size()
                            ? "'" + requests_[index].name + "'"
                            : std::string("the requests that were sent at once"));
  }

  // Sends the requests from a thread of its own and watches the server. True when all succeeded.
  bool Ask(ChildProcess& child, const std::string& address) {
    const auto url = ParseUrl(address);
    if (!url) {
      child.Kill();
      Fail(CellFailure::kError, "wrote an address that is none: " + address);
      return false;
    }
    CellProgress progress;
    progress.Enter(0);
    CellAnswers answers;
    std::thread sender([&] {
      answers = SendCellRequests(*url, requests_, progress);
      progress.done = true;
    });
    while (!progress.done && !child.Poll() &&
           !GiveUp(child, progress.InFlight(), During(progress))) {
      std::this_thread::sleep_for(kServerPollInterval);
    }
    const std::string when = During(progress);
    sender.join();  // the connection breaks with the server
    result_.answers = std::move(answers.answers);
    result_.at_once = std::move(answers.at_once);
    if (result_.failure != CellFailure::kNone) return false;
    if (!answers.error && !child.Poll()) return true;
    if (const auto end = child.WaitFor(kEndGrace)) {
      FailEnd(*end, when);
    } else {
      Fail(CellFailure::kError, fmt::format("failed {}: {}", when, answers.error->message()));
    }
    return false;
  }

  void Stop(ChildProcess& child) {
    child.Signal(SIGTERM);
    const auto asked = Clock::now();
    while (!child.Poll() && !GiveUp(child, Clock::now() - asked, "after SIGTERM") &&
           Clock::now() - asked < kStopLimit) {
      std::this_thread::sleep_for(kServerPollInterval);
    }
    if (result_.failure != CellFailure::kNone) return;
    const auto end = child.Poll();
    if (!end) {
      child.Kill();
      Fail(CellFailure::kHang,
           fmt::format("did not end for {} s after SIGTERM", kStopLimit.count()));
    } else if (end->by_signal || end->number != 0) {
      FailEnd(*end, "after SIGTERM");
    }
  }

  const CellPlan& plan_;
  const std::vector<CellRequest>& requests_;
  const std::chrono::seconds timeout_;
  const Interrupt& interrupt_;
  const Clock::time_point start_ = Clock::now();
  CellResult result_;
};

}  // namespace

std::string ReadyAddress(const std::filesystem::path& log) {
  std::ifstream file(log);
  for (std::string line; std::getline(file, line);) {
    constexpr std::string_view kReady = " info ready: ";
    const size_t found = line.find(kReady);
    if (found == std::string::npos || file.eof()) continue;  // a line without its end is not whole
    return line.substr(found + kReady.size());
  }
  return {};
}

CellResult RunCell(const CellPlan& plan, const std::vector<CellRequest>& requests,
                   std::chrono::seconds timeout, const Interrupt& interrupt) {
  return CellRun(plan, requests, timeout, interrupt).Run();
}

}  // namespace kvs
