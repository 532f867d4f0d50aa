#include "doctor/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "doctor_support.h"

namespace kvs {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

MatrixReport CrashInCell4() {
  MatrixReport matrix;
  for (uint32_t i = 0; i < 4; ++i) {
    matrix.plans[i] = {.number = i + 1,
                       .name = i == 3 ? "both" : "another",
                       .fp8 = i % 2 == 1,
                       .prefix_caching = i >= 2,
                       .arguments = {"serve", "--kv-cache-dtype", "bfloat16"},
                       .log = "/logs/cell" + std::to_string(i + 1) + ".log"};
  }
  matrix.cells[3].failure = CellFailure::kCrash;
  matrix.cells[3].what = "was killed by SIGSEGV during 'text 1, repeated'";
  matrix.rules = {SameTypeCloseness(true), Fp8Closeness(KvCacheDType::kF8E4M3),
                  SameTypeCloseness(false)};
  matrix.reference_plan = CellPlan{};
  matrix.reference_plan->name = "portable code";
  matrix.distances[1] = Distance{.gap = 0.25, .mean_delta = 0.125};
  matrix.distances[2] = Distance{};
  matrix.verdict = ReadMatrix(matrix.cells);
  return matrix;
}

TEST(Report, ALineHasTheOutcomeTheFindingAndTheFix) {
  EXPECT_EQ(TextLine(Ok("port", "127.0.0.1:8000 is free")),
            "OK    port           127.0.0.1:8000 is free\n");
  EXPECT_EQ(TextLine(Fail("port", "127.0.0.1:80: denied", "choose another")),
            "FAIL  port           127.0.0.1:80: denied -> choose another\n");
  EXPECT_EQ(TextLine(Warn("a\nb", "two\nlines", "x")), "WARN  a b            two lines -> x\n");
}

TEST(Report, TheWorstOutcomeCounts) {
  EXPECT_EQ(OutcomeOf({}), Outcome::kOk);
  EXPECT_EQ(OutcomeOf({Ok("a", ""), Warn("b", "", "")}), Outcome::kWarn);
  EXPECT_EQ(OutcomeOf({Fail("a", "", ""), Warn("b", "", "")}), Outcome::kFail);
}

TEST(Report, ACrashedCellIsNamedWithItsLogAndTheReadingFollows) {
  const auto checks = MatrixChecks(CrashInCell4());
  ASSERT_THAT(checks, SizeIs(6));
  EXPECT_EQ(TextLine(checks[0]), "OK    reference      portable code: 0 requests in 0.0 s\n");
  EXPECT_THAT(checks[2].finding,
              HasSubstr("text as cell 1: 0.125 nats a token (allowed 0.4), 0.25 where texts part "
                        "(allowed 1.5)"));
  EXPECT_THAT(checks[3].finding, HasSubstr("0 tokens from the cache; text as cell 1, bit for bit"));
  EXPECT_EQ(TextLine(checks[4]),
            "FAIL  cell 4         both: crash: was killed by SIGSEGV during 'text 1, repeated' -> "
            "see /logs/cell4.log\n");
  EXPECT_EQ(checks[5].name, "matrix");
  EXPECT_THAT(checks[5].finding, HasSubstr("interaction bug: "));
}

TEST(Report, AReferenceThatFailedIsAWarning) {
  MatrixReport matrix = CrashInCell4();
  matrix.reference.failure = CellFailure::kHang;
  matrix.reference.what = "did nothing for 180 s";
  const Check check = MatrixChecks(matrix).front();
  EXPECT_EQ(check.outcome, Outcome::kWarn);
  EXPECT_EQ(check.finding, "portable code: hang: did nothing for 180 s");
}

TEST(Report, JsonHasEveryPart) {
  DoctorReport report;
  report.matrix = CrashInCell4();
  report.checks = MatrixChecks(*report.matrix);
  report.probe = ProbeReport{};
  report.probe->info = W7900();
  report.fp8_dtype = "fp8_e4m3";
  report.record = "/state/isolation.json";
  const auto json = nlohmann::json::parse(JsonReport(report, "0.1.0"));
  EXPECT_EQ(json.at("kvserve"), "0.1.0");
  EXPECT_EQ(json.at("outcome"), "FAIL");
  EXPECT_EQ(json.at("device").at("architecture"), "gfx1100");
  EXPECT_EQ(json.at("device").at("kernel_driver"), nullptr);
  EXPECT_EQ(json.at("checks").size(), 6u);
  EXPECT_EQ(json.at("record"), "/state/isolation.json");
  const auto& matrix = json.at("matrix");
  EXPECT_EQ(matrix.at("reading"), "interaction bug");
  EXPECT_EQ(matrix.at("rules").at("with_and_without_prefix_caching"), "bit for bit");
  EXPECT_EQ(matrix.at("cells").at(0).at("failure"), nullptr);
  const auto& cell = matrix.at("cells").at(3);
  EXPECT_EQ(cell.at("cell"), 4);
  EXPECT_EQ(cell.at("outcome"), "FAIL");
  EXPECT_EQ(cell.at("failure"), "crash");
  EXPECT_EQ(cell.at("log"), "/logs/cell4.log");
  EXPECT_EQ(cell.at("distance"), nullptr);
  EXPECT_DOUBLE_EQ(matrix.at("cells").at(1).at("distance").at("mean_nats"), 0.125);
  EXPECT_EQ(matrix.at("reference").at("name"), "portable code");
  EXPECT_EQ(cell.at("kv_cache_dtype"), "bfloat16");
  EXPECT_EQ(cell.at("enable_prefix_caching"), true);
}

TEST(Report, WhatDidNotHappenIsNull) {
  const auto json = nlohmann::json::parse(JsonReport({}, "0.1.0"));
  EXPECT_EQ(json.at("outcome"), "OK");
  EXPECT_EQ(json.at("device"), nullptr);
  EXPECT_EQ(json.at("matrix"), nullptr);
  EXPECT_EQ(json.at("record"), nullptr);
}

}  // namespace
}  // namespace kvs
