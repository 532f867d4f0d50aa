#include "doctor/isolation_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "doctor_support.h"

namespace kvs {
namespace {

using testing::HasSubstr;

IsolationRecord Passed() {
  return {IsolationKeyOf(W7900(), "6.8.5", "0.1.0", KvCacheDType::kF8E4M3, ""), true,
          "pass: all work", "/models/llama", "2026-01-02T03:04:05Z"};
}

TEST(IsolationRecord, ComesBackAsItWasWritten) {
  const TempDir state;
  ASSERT_TRUE(WriteIsolationRecord(state.path() / "kvserve", Passed()));
  const auto read = ReadIsolationRecord(state.path() / "kvserve", Passed().key);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->key, Passed().key);
  EXPECT_TRUE(read->passed);
  EXPECT_EQ(read->reading, "pass: all work");
  EXPECT_EQ(read->model, "/models/llama");
  EXPECT_EQ(read->time, "2026-01-02T03:04:05Z");
}

TEST(IsolationRecord, IsNoOtherDevicesDriversVersionsTypesOrModes) {
  const TempDir state;
  ASSERT_TRUE(WriteIsolationRecord(state.path(), Passed()));
  DeviceInfo other = W7900();
  other.name = "AMD Radeon RX 7900 XTX";
  DeviceInfo newer = W7900();
  newer.driver = "6.4";
  for (const IsolationKey& key :
       {IsolationKeyOf(other, "6.8.5", "0.1.0", KvCacheDType::kF8E4M3, ""),
        IsolationKeyOf(newer, "6.8.5", "0.1.0", KvCacheDType::kF8E4M3, ""),
        IsolationKeyOf(W7900(), "6.10.5", "0.1.0", KvCacheDType::kF8E4M3, ""),
        IsolationKeyOf(W7900(), "6.8.5", "0.2.0", KvCacheDType::kF8E4M3, ""),
        IsolationKeyOf(W7900(), "6.8.5", "0.1.0", KvCacheDType::kF8E5M2, ""),
        IsolationKeyOf(W7900(), "6.8.5", "0.1.0", KvCacheDType::kF8E4M3, "--batch-invariant")}) {
    EXPECT_FALSE(ReadIsolationRecord(state.path(), key)) << key.device << key.driver;
  }
}

TEST(IsolationRecord, NamesThatMakeOneFileNameAreNotMixedUp) {
  IsolationRecord record = Passed();
  record.key.device = "Radeon/1";
  IsolationKey same_file = record.key;
  same_file.device = "Radeon:1";
  const TempDir state;
  ASSERT_EQ(IsolationRecordPath(state.path(), record.key),
            IsolationRecordPath(state.path(), same_file));
  ASSERT_TRUE(WriteIsolationRecord(state.path(), record));
  EXPECT_FALSE(ReadIsolationRecord(state.path(), same_file));
}

TEST(IsolationRecord, ANameCannotLeaveTheDirectory) {
  IsolationKey key = Passed().key;
  key.device = "../../etc/passwd";
  EXPECT_EQ(IsolationRecordPath("/state", key).parent_path(), "/state");
}

TEST(IsolationRecord, TheLastOneCounts) {
  const TempDir state;
  ASSERT_TRUE(WriteIsolationRecord(state.path(), Passed()));
  IsolationRecord failed = Passed();
  failed.passed = false;
  failed.reading = "interaction bug";
  ASSERT_TRUE(WriteIsolationRecord(state.path(), failed));
  const auto read = ReadIsolationRecord(state.path(), failed.key);
  ASSERT_TRUE(read);
  EXPECT_FALSE(read->passed);
  // One file: no temporary one is left beside it.
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(state.path()), {}), 1);
}

TEST(IsolationRecord, AnotherUserCanReadIt) {
  const TempDir state;
  const mode_t before = umask(0077);
  const auto written = WriteIsolationRecord(state.path(), Passed());
  umask(before);
  ASSERT_TRUE(written);
  struct stat status;
  ASSERT_EQ(stat(IsolationRecordPath(state.path(), Passed().key).c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0644u);
}

TEST(IsolationRecord, DamageCountsAsNone) {
  const TempDir state;
  ASSERT_TRUE(WriteIsolationRecord(state.path(), Passed()));
  const auto path = IsolationRecordPath(state.path(), Passed().key);
  const std::string whole = ReadAll(path);
  for (size_t length = 0; length + 2 < whole.size(); ++length) {
    WriteAll(path, whole.substr(0, length));
    EXPECT_FALSE(ReadIsolationRecord(state.path(), Passed().key)) << length;
  }
  for (const char* text : {"[]", "null", R"({"passed": "yes"})", R"({"passed": true})"}) {
    WriteAll(path, text);
    EXPECT_FALSE(ReadIsolationRecord(state.path(), Passed().key)) << text;
  }
}

TEST(IsolationRecord, AFileInTheWayIsAnErrorThatNamesIt) {
  const TempDir state;
  WriteAll(state.path() / "kvserve", "");
  const auto written = WriteIsolationRecord(state.path() / "kvserve", Passed());
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code(), Code::kOsError);
  EXPECT_THAT(written.error().message(), HasSubstr((state.path() / "kvserve").string()));
}

TEST(IsolationRecord, ASimulatedDeviceIsNoRealOne) {
  DeviceOptions options;
  DeviceInfo cpu;
  cpu.name = "AMD EPYC";
  cpu.architecture = "avx512";
  EXPECT_EQ(WithSimulation(cpu, options).architecture, "avx512");
  options.simulate_architecture = "gfx1100";
  const DeviceInfo simulated = WithSimulation(cpu, options);
  EXPECT_EQ(simulated.architecture, "gfx1100");
  EXPECT_EQ(simulated.name, "simulated gfx1100");
  EXPECT_EQ(simulated.kind, DeviceKind::kCpu);
}

}  // namespace
}  // namespace kvs
