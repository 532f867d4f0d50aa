#include "doctor/child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "base/file_descriptor.h"
#include "config/environment.h"

namespace kvs {
namespace {

constexpr char kThisExecutable[] = "/proc/self/exe";
constexpr int kExecFailed = 127;
constexpr std::chrono::milliseconds kPollInterval(10);

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// The settings of a server of the user's are not those of a child.
std::vector<std::string> ChildEnvironment() {
  std::vector<std::string> kept;
  for (const char* const* entry = ProcessEnvironment(); *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    if (text.substr(0, 8) != "KVSERVE_") kept.emplace_back(text);
  }
  return kept;
}

FileDescriptor OpenOutput(const std::filesystem::path& path) {
  return FileDescriptor(
      open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644));
}

// In the child, between fork and exec: async-signal-safe calls alone.
[[noreturn]] void Become(pid_t parent, int out, int err, char* const* argv, char* const* envp) {
  setpgid(0, 0);  // the terminal's Ctrl-C is for the doctor, who ends the child
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(kExecFailed);  // it died before prctl
  const rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  sigset_t none;
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, nullptr);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) std::signal(signal, SIG_DFL);
  const int in = open("/dev/null", O_RDONLY);
  if (in < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0) _exit(kExecFailed);
  execve(kThisExecutable, argv, envp);
  _exit(kExecFailed);
}

}  // namespace

std::string ChildEnd::Describe() const {
  if (!by_signal) return fmt::format("ended with exit code {}", number);
  const char* name = sigabbrev_np(number);
  const char* meaning = sigdescr_np(number);
  return fmt::format("was killed by SIG{} ({})", name != nullptr ? name : std::to_string(number),
                     meaning != nullptr ? meaning : "unknown");
}

Result<ChildProcess> ChildProcess::Start(const std::vector<std::string>& arguments,
                                         const Files& files) {
  const FileDescriptor out = OpenOutput(files.out);
  const FileDescriptor err = OpenOutput(files.err);
  if (!out.valid() || !err.valid()) {
    return Error(Code::kOsError, fmt::format("cannot write '{}': {}",
                                             (out.valid() ? files.err : files.out).string(),
                                             std::generic_category().message(errno)));
  }
  std::vector<std::string> words = {"kvserve"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<std::string> environment = ChildEnvironment();
  const std::vector<char*> argv = Pointers(words);
  const std::vector<char*> envp = Pointers(environment);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) {
    return Error(Code::kOsError,
                 fmt::format("cannot start a process: {}", std::generic_category().message(errno)));
  }
  if (pid == 0) Become(parent, out.get(), err.get(), argv.data(), envp.data());
  return ChildProcess(pid);
}

ChildProcess::~ChildProcess() {
  if (pid_ > 0 && !end_) Kill();
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), end_(other.end_) {}

std::optional<ChildEnd> ChildProcess::Poll() {
  if (end_ || pid_ <= 0) return end_;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
  end_ =
      WIFSIGNALED(status) ? ChildEnd{true, WTERMSIG(status)} : ChildEnd{false, WEXITSTATUS(status)};
  return end_;
}

std::optional<ChildEnd> ChildProcess::WaitFor(std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (!Poll() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(kPollInterval);
  }
  return end_;
}

void ChildProcess::Signal(int signal) {
  if (pid_ > 0 && !Poll()) kill(pid_, signal);
}

ChildEnd ChildProcess::Kill() {
  Signal(SIGKILL);
  while (!Poll()) std::this_thread::sleep_for(kPollInterval);
  return *end_;
}

}  // namespace kvs
