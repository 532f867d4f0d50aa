#include "doctor/device_probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "doctor_support.h"

namespace kvs {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

TEST(DeviceProbe, TheCpuPassesWithTheShapesOfAModel) {
  DeviceOptions device;
  device.device = DeviceKind::kCpu;
  device.num_threads = 1;
  ModelConfig model;
  model.head_dim = 32;
  model.num_heads = 8;
  model.num_kv_heads = 2;
  for (const ModelConfig* shapes :
       {static_cast<const ModelConfig*>(nullptr), &std::as_const(model)}) {
    const auto report = ProbeDevice(device, shapes, 16);
    ASSERT_TRUE(report) << report.error().message();
    EXPECT_EQ(report->info.kind, DeviceKind::kCpu);
    EXPECT_FALSE(report->info.name.empty());
    EXPECT_FALSE(report->memory);
    EXPECT_EQ(report->fp8_error, "");
    ASSERT_THAT(report->fp8, SizeIs(2));
    EXPECT_EQ(report->fp8[0].dtype, KvCacheDType::kF8E4M3);
    EXPECT_EQ(report->fp8[1].dtype, KvCacheDType::kF8E5M2);
    EXPECT_EQ(report->fp8[0].num_failed + report->fp8[1].num_failed, 0u);
  }
}

TEST(DeviceProbe, ComesThroughItsJson) {
  ProbeReport report;
  report.info = W7900();
  report.info.index = 1;
  report.info.has_fp8_convert = false;
  report.kernel_driver = "6.8.5";
  report.description = "hip:1, AMD Radeon PRO W7900";
  report.memory = DeviceMemory{48ull << 30, 47ull << 30};
  report.fp8 = {{KvCacheDType::kF8E4M3, 10, 20, 1, {"V of code 0x7f"}},
                {KvCacheDType::kF8E5M2, 11, 21, 0, {}}};
  const auto read = ParseProbe(ProbeJson(report));
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(read->info.kind, DeviceKind::kHip);
  EXPECT_EQ(read->info.index, 1u);
  EXPECT_EQ(read->info.name, "AMD Radeon PRO W7900");
  EXPECT_EQ(read->info.architecture, "gfx1100");
  EXPECT_EQ(read->info.driver, "6.3");
  EXPECT_EQ(read->info.wave_size, 32u);
  EXPECT_EQ(read->kernel_driver, "6.8.5");
  ASSERT_TRUE(read->memory);
  EXPECT_EQ(read->memory->free, 47ull << 30);
  ASSERT_THAT(read->fp8, SizeIs(2));
  EXPECT_EQ(read->fp8[0].num_failed, 1u);
  EXPECT_THAT(read->fp8[0].failures, ElementsAre("V of code 0x7f"));
  EXPECT_EQ(read->fp8[1].dtype, KvCacheDType::kF8E5M2);
  EXPECT_EQ(read->fp8[1].num_decoded, 21u);
}

TEST(DeviceProbe, WhatCannotBeOpenedSaysSo) {
  const Result<ProbeReport> none = Error(Code::kUnavailable, "--device hip: no driver");
  const auto read = ParseProbe(ProbeJson(none));
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code(), Code::kUnavailable);
  EXPECT_EQ(read.error().message(), "--device hip: no driver");
}

TEST(DeviceProbe, HalfAReportIsAnError) {
  const std::string whole = ProbeJson(ProbeReport{});
  ASSERT_TRUE(ParseProbe(whole));
  for (const std::string& text :
       {std::string(), std::string("{}"), std::string("null"), whole.substr(0, whole.size() / 2)}) {
    const auto read = ParseProbe(text);
    ASSERT_FALSE(read) << text;
    EXPECT_EQ(read.error().code(), Code::kInternal);
    EXPECT_THAT(read.error().message(), HasSubstr("cannot be read"));
  }
}

}  // namespace
}  // namespace kvs
