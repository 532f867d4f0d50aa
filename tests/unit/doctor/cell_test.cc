#include "doctor/cell.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

#include "doctor_support.h"

namespace kvs {
namespace {

using testing::HasSubstr;

// Children are this program with the arguments of child_process_test.cc. What a real server does is
// in tests/e2e/test_doctor.py.
CellResult RunTask(const char* task, const std::filesystem::path& log) {
  const CellPlan plan = {.number = 4, .name = "both", .arguments = {task}, .log = log};
  const Interrupt interrupt;
  return RunCell(plan, MakeCellRequests({std::vector<uint32_t>(200, 1)}, 16),
                 std::chrono::seconds(1), interrupt);
}

TEST(Cell, AnEndBeforeItIsReadyIsARefusal) {
  const TempDir dir;
  const CellResult result = RunTask("child-ends", dir.path() / "log");
  EXPECT_EQ(result.failure, CellFailure::kRefused);
  EXPECT_EQ(result.what, "ended with exit code 7 before it was ready");
}

TEST(Cell, ACrashAtTheStartIsACrash) {
  const TempDir dir;
  const CellResult result = RunTask("child-crashes", dir.path() / "log");
  EXPECT_EQ(result.failure, CellFailure::kCrash);
  EXPECT_THAT(result.what, HasSubstr("was killed by SIGSEGV"));
  EXPECT_THAT(result.what, HasSubstr("before it was ready"));
}

TEST(Cell, AStartWithoutEndIsAHang) {
  const TempDir dir;
  const CellResult result = RunTask("child-sleeps", dir.path() / "log");
  EXPECT_EQ(result.failure, CellFailure::kHang);
  EXPECT_EQ(result.what, "did nothing for 1 s before it was ready");
  EXPECT_GE(result.total_seconds, 1.0);
}

TEST(Cell, AnInterruptEndsIt) {
  const TempDir dir;
  const CellPlan plan = {
      .number = 1, .name = "neither", .arguments = {"child-sleeps"}, .log = dir.path() / "log"};
  const Interrupt interrupt;
  std::raise(SIGINT);
  EXPECT_EQ(interrupt.signal(), SIGINT);
  const CellResult result = RunCell(plan, {}, std::chrono::seconds(60), interrupt);
  EXPECT_EQ(result.failure, CellFailure::kInterrupted);
  EXPECT_LT(result.total_seconds, 30.0);
}

TEST(Cell, TheAddressIsReadOnceItsLineIsWhole) {
  const TempDir dir;
  const auto log = dir.path() / "log";
  EXPECT_EQ(ReadyAddress(log), "");
  const std::string start = "2026-11-26 03:46:33.548 info device: cpu\n";
  WriteAll(log, start + "2026-11-26 03:46:33.750 info ready: http://127.0.0.1:371");
  EXPECT_EQ(ReadyAddress(log), "");
  WriteAll(log, start + "2026-11-26 03:46:33.750 info ready: http://127.0.0.1:37103/v1\nmore\n");
  EXPECT_EQ(ReadyAddress(log), "http://127.0.0.1:37103/v1");
}

}  // namespace
}  // namespace kvs
