#include "doctor/machine_checks.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/file_descriptor.h"
#include "doctor_support.h"

namespace kvs {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

ProbeReport ReportOfW7900() {
  ProbeReport probe;
  probe.info = W7900();
  probe.kernel_driver = "6.8.5";
  probe.memory = DeviceMemory{48ull << 30, 40ull << 30};
  probe.fp8 = {{KvCacheDType::kF8E4M3, 1000, 4000, 0, {}},
               {KvCacheDType::kF8E5M2, 900, 3900, 2, {"V of code 0x01 is 1 and was read as 2"}}};
  return probe;
}

// 8 billion parameters: 32 layers, 8 KV heads of 128.
ModelConfig EightB() {
  ModelConfig config;
  config.vocab_size = 128256;
  config.hidden_size = 4096;
  config.intermediate_size = 14336;
  config.num_layers = 32;
  config.num_heads = 32;
  config.num_kv_heads = 8;
  config.head_dim = 128;
  config.max_position_embeddings = 131072;
  return config;
}

TEST(MachineChecks, TheDeviceIsDescribedAndEachFp8TypeJudged) {
  const auto checks = CheckDevice(ReportOfW7900());
  ASSERT_THAT(checks, SizeIs(4));
  EXPECT_EQ(checks[0].finding,
            "hip: AMD Radeon PRO W7900, gfx1100, waves of 32, FP8 by integer arithmetic");
  EXPECT_EQ(checks[1].finding, "supports hip 6.3, kernel module 6.8.5; the plugin uses 6.3");
  EXPECT_EQ(checks[2].name, "FP8 fp8_e4m3");
  EXPECT_EQ(checks[2].outcome, Outcome::kOk);
  EXPECT_EQ(checks[3].outcome, Outcome::kFail);
  EXPECT_EQ(checks[3].finding, "2 of 4800 values are wrong; V of code 0x01 is 1 and was read as 2");
  EXPECT_THAT(checks[3].fix, HasSubstr("do not use an FP8 KV cache"));
}

TEST(MachineChecks, FP8ThatCouldNotBeTestedFails) {
  ProbeReport probe = ReportOfW7900();
  probe.fp8.clear();
  probe.fp8_error = "attention: head_dim 80";
  const auto checks = CheckDevice(probe);
  ASSERT_THAT(checks, SizeIs(3));
  EXPECT_EQ(checks[2].outcome, Outcome::kFail);
  EXPECT_THAT(checks[2].finding, HasSubstr("head_dim 80"));
}

TEST(MachineChecks, MemoryIsTheDevicesWhereItHasSome) {
  ProbeReport probe = ReportOfW7900();
  const Check roomy = CheckMemory(probe, EightB(), 16ull << 30, 1);
  EXPECT_EQ(roomy.outcome, Outcome::kOk) << roomy.finding;
  EXPECT_THAT(roomy.finding, HasSubstr("of 40.00 GiB that are free"));
  probe.memory->free = 17ull << 30;
  const Check tight = CheckMemory(probe, EightB(), 16ull << 30, 1);
  EXPECT_EQ(tight.outcome, Outcome::kWarn) << tight.finding;
  probe.memory->free = 8ull << 30;
  const Check full = CheckMemory(probe, EightB(), 16ull << 30, 1ull << 40);
  EXPECT_EQ(full.outcome, Outcome::kFail);
  EXPECT_FALSE(full.fix.empty());
}

TEST(MachineChecks, OnTheCpuMemoryIsTheMachines) {
  ProbeReport probe;
  // 131072 bytes a token: what is left of 24 GiB holds 65536.
  const Check check = CheckMemory(probe, EightB(), 16ull << 30, 24ull << 30);
  EXPECT_EQ(check.finding,
            "the model takes 16.00 GiB of 24.00 GiB that are free; what is left holds 65536 tokens "
            "of BF16 KV cache, or 131072 of FP8");
  EXPECT_EQ(CheckMemory(probe, EightB(), 16ull << 30, 16ull << 30).outcome, Outcome::kFail);
}

TEST(MachineChecks, APortIsFreeInUseOrForbidden) {
  const FileDescriptor listener(socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* raw = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(bind(listener.get(), raw, size), 0);
  ASSERT_EQ(listen(listener.get(), 1), 0);
  ASSERT_EQ(getsockname(listener.get(), raw, &size), 0);
  const uint16_t port = ntohs(address.sin_port);
  const Check taken = CheckPort("127.0.0.1", port);
  EXPECT_EQ(taken.outcome, Outcome::kWarn);
  EXPECT_EQ(taken.finding, "127.0.0.1:" + std::to_string(port) + " is in use");
  EXPECT_EQ(CheckPort("127.0.0.1", 0).outcome, Outcome::kOk);
  const Check foreign = CheckPort("192.0.2.1", 8000);  // of no machine: reserved for examples
  EXPECT_EQ(foreign.outcome, Outcome::kFail);
  EXPECT_EQ(foreign.fix, "give --host an address of this machine");
  EXPECT_EQ(CheckPort("no such host", 8000).outcome, Outcome::kFail);
}

}  // namespace
}  // namespace kvs
