// A process of this very executable, with its output in files. It ends with its owner, whatever
// ends the owner: the kernel kills it when the thread that started it is gone.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "kvserve/status.h"

namespace kvs {

struct ChildEnd {
  bool by_signal = false;
  int number = 0;  // of the signal, or the exit code

  // "was killed by SIGSEGV (segmentation fault)", "ended with exit code 65".
  std::string Describe() const;
};

class ChildProcess {
 public:
  struct Files {
    std::filesystem::path out;  // standard output, truncated
    std::filesystem::path err;  // standard error; may be the same file
  };
  // Runs kvserve with `arguments`, without KVSERVE_ variables, in a process group of its own.
  // kOsError. The thread that calls this has to outlive the child.
  static Result<ChildProcess> Start(const std::vector<std::string>& arguments, const Files& files);
  // Kills it if it still runs, and waits.
  ~ChildProcess();
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&&) = delete;

  // How it ended; empty as long as it runs.
  std::optional<ChildEnd> Poll();
  // As Poll, but waits for at most `timeout`.
  std::optional<ChildEnd> WaitFor(std::chrono::milliseconds timeout);
  void Signal(int signal);
  // SIGKILL, and waits for the end.
  ChildEnd Kill();
  pid_t pid() const { return pid_; }

 private:
  explicit ChildProcess(pid_t pid) : pid_(pid) {}

  pid_t pid_;  // -1: moved from
  std::optional<ChildEnd> end_;
};

}  // namespace kvs
