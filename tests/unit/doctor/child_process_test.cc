#include "doctor/child_process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdio>

#include "doctor_support.h"

namespace kvs {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

// A child is this very program; what it is to do stands in its arguments, and is done before any
// test of its own could start.
bool HasArgument(const char* wanted) {
  const std::string arguments = ReadAll("/proc/self/cmdline");
  return arguments.find(std::string(1, '\0') + wanted + std::string(1, '\0')) != std::string::npos;
}

const bool kDone = [] {
  if (HasArgument("child-sleeps")) {
    for (;;) pause();
  }
  if (HasArgument("child-crashes")) {
    std::signal(SIGSEGV, SIG_DFL);  // a sanitizer's handler would make an exit of it
    std::raise(SIGSEGV);
  }
  if (HasArgument("child-ends")) {
    std::puts("to out");
    std::fputs("to err\n", stderr);
    std::fputs(getenv("KVSERVE_PORT") == nullptr ? "no KVSERVE_PORT\n" : "KVSERVE_PORT\n", stderr);
    std::fflush(stdout);
    _exit(7);
  }
  return true;
}();

class ChildProcessTest : public testing::Test {
 protected:
  ChildProcess Start(const char* task) {
    auto child = ChildProcess::Start({task}, {dir_.path() / "out", dir_.path() / "err"});
    EXPECT_TRUE(child) << child.error().message();
    return *std::move(child);
  }
  static bool IsGone(pid_t pid) { return kill(pid, 0) != 0 && errno == ESRCH; }

  const TempDir dir_;
};

TEST_F(ChildProcessTest, EndsWithItsExitCodeAndItsOutputIsInTheFiles) {
  setenv("KVSERVE_PORT", "1", 1);
  ChildProcess child = Start("child-ends");
  unsetenv("KVSERVE_PORT");
  const auto end = child.WaitFor(seconds(30));
  ASSERT_TRUE(end);
  EXPECT_FALSE(end->by_signal);
  EXPECT_EQ(end->number, 7);
  EXPECT_EQ(end->Describe(), "ended with exit code 7");
  EXPECT_EQ(ReadAll(dir_.path() / "out"), "to out\n");
  EXPECT_EQ(ReadAll(dir_.path() / "err"), "to err\nno KVSERVE_PORT\n");
}

TEST_F(ChildProcessTest, ACrashIsNamedByItsSignal) {
  const auto end = Start("child-crashes").WaitFor(seconds(30));
  ASSERT_TRUE(end);
  EXPECT_TRUE(end->by_signal);
  EXPECT_EQ(end->number, SIGSEGV);
  EXPECT_THAT(end->Describe(), HasSubstr("was killed by SIGSEGV"));
}

TEST_F(ChildProcessTest, WaitsNoLongerThanAsked) {
  ChildProcess child = Start("child-sleeps");
  EXPECT_FALSE(child.Poll());
  EXPECT_FALSE(child.WaitFor(milliseconds(30)));
  const ChildEnd end = child.Kill();
  EXPECT_TRUE(end.by_signal);
  EXPECT_EQ(end.number, SIGKILL);
  EXPECT_EQ(child.Poll()->number, SIGKILL);  // once ended, it stays so
}

TEST_F(ChildProcessTest, DoesNotOutliveItsOwner) {
  pid_t pid = 0;
  {
    const ChildProcess child = Start("child-sleeps");
    pid = child.pid();
    EXPECT_FALSE(IsGone(pid));
  }
  EXPECT_TRUE(IsGone(pid));
}

// The owner cannot end anything any more when it is killed: the kernel does.
TEST_F(ChildProcessTest, DiesWithAnOwnerThatIsKilled) {
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  const pid_t owner = fork();
  ASSERT_GE(owner, 0);
  if (owner == 0) {
    const ChildProcess child = Start("child-sleeps");
    const pid_t pid = child.pid();
    if (write(pipe_ends[1], &pid, sizeof pid) != sizeof pid) _exit(1);
    for (;;) pause();
  }
  pid_t pid = 0;
  ASSERT_EQ(read(pipe_ends[0], &pid, sizeof pid), ssize_t{sizeof pid});
  EXPECT_FALSE(IsGone(pid));
  kill(owner, SIGKILL);
  waitpid(owner, nullptr, 0);
  for (int i = 0; i < 500 && !IsGone(pid); ++i) usleep(10000);
  EXPECT_TRUE(IsGone(pid));
}

TEST_F(ChildProcessTest, IsNotReachedByTheTerminalsSignals) {
  const ChildProcess child = Start("child-sleeps");
  for (int i = 0; i < 500 && getpgid(child.pid()) == getpgrp(); ++i) usleep(10000);
  EXPECT_EQ(getpgid(child.pid()), child.pid());
}

TEST_F(ChildProcessTest, AFileThatCannotBeWrittenIsAnError) {
  const auto child = ChildProcess::Start({"child-ends"}, {"/nowhere/out", "/nowhere/out"});
  ASSERT_FALSE(child);
  EXPECT_THAT(child.error().message(), HasSubstr("/nowhere/out"));
}

}  // namespace
}  // namespace kvs
