#include "doctor/matrix.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "doctor_support.h"

namespace kvs {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

class Matrix : public testing::Test {
 protected:
  Matrix() : model_(CheckModel(KVS_SOURCE_DIR "/models/default", "")) {}

  std::array<CellPlan, 4> Plans() {
    const auto matrix = IsolationMatrix::Make(command_, model_, probe_, "/logs");
    EXPECT_TRUE(matrix) << matrix.error().message();
    return matrix->plans();
  }

  DoctorCommand command_;
  CheckedModel model_;
  ProbeReport probe_;
};

// The value behind a flag of a plan.
std::string ValueOf(const CellPlan& plan, const char* flag) {
  const auto found = std::find(plan.arguments.begin(), plan.arguments.end(), flag);
  return found == plan.arguments.end() ? "" : *std::next(found);
}

TEST_F(Matrix, TheCellsDifferInTwoFlagsAlone) {
  const auto plans = Plans();
  const char* dtypes[] = {"bfloat16", "fp8_e4m3", "bfloat16", "fp8_e4m3"};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(plans[i].number, i + 1);
    EXPECT_EQ(ValueOf(plans[i], "--kv-cache-dtype"), dtypes[i]);
    EXPECT_THAT(plans[i].arguments,
                Contains(i >= 2 ? "--enable-prefix-caching" : "--no-enable-prefix-caching"));
    EXPECT_EQ(plans[i].log, "/logs/cell" + std::to_string(i + 1) + ".log");
    auto rest = plans[i].arguments, first = plans[0].arguments;
    for (auto* arguments : {&rest, &first}) arguments->resize(arguments->size() - 3);
    EXPECT_EQ(rest, first);
  }
}

TEST_F(Matrix, TheServersAreSmallAndOnAPortOfTheirOwn) {
  const CellPlan plan = Plans()[3];
  EXPECT_EQ(ValueOf(plan, "--port"), "0");
  EXPECT_EQ(ValueOf(plan, "--host"), "127.0.0.1");
  EXPECT_EQ(ValueOf(plan, "--device"), "cpu");
  EXPECT_EQ(ValueOf(plan, "--kv-cache-tokens"), "4096");
  EXPECT_THAT(plan.arguments, Contains("--skip-isolation-check"));
}

TEST_F(Matrix, TheDevicesFlagsArePassedOn) {
  command_.device.device_index = 3;
  command_.device.batch_invariant = true;
  command_.device.enforce_eager = true;
  command_.fp8_dtype = KvCacheDType::kF8E5M2;
  command_.block_size = 32;
  probe_.info = W7900();
  model_.config->checkpoint_dtype = DType::kF32;
  const CellPlan plan = Plans()[3];
  EXPECT_EQ(ValueOf(plan, "--device"), "hip");
  EXPECT_EQ(ValueOf(plan, "--device-index"), "3");
  EXPECT_EQ(ValueOf(plan, "--kv-cache-dtype"), "fp8_e5m2");
  EXPECT_EQ(ValueOf(plan, "--block-size"), "32");
  EXPECT_EQ(ValueOf(plan, "--dtype"), "bfloat16");
  EXPECT_THAT(plan.arguments, Contains("--batch-invariant"));
  EXPECT_THAT(plan.arguments, Contains("--enforce-eager"));
}

TEST_F(Matrix, AFaultGoesToItsCell) {
  command_.inject_faults = {{4, Fault::kCrashOnHit}, {2, Fault::kWrongText}};
  const auto plans = Plans();
  EXPECT_EQ(ValueOf(plans[3], "--inject-fault"), "crash-on-hit");
  EXPECT_EQ(ValueOf(plans[1], "--inject-fault"), "wrong-text");
  EXPECT_EQ(ValueOf(plans[0], "--inject-fault"), "");
  EXPECT_EQ(ValueOf(plans[2], "--inject-fault"), "");
}

TEST_F(Matrix, TextsAreComparedBitForBitWhereTheDevicePromisesThat) {
  const auto rules_of = [&] {
    auto matrix = IsolationMatrix::Make(command_, model_, probe_, "/logs");
    return matrix->Judge().rules;
  };
  EXPECT_TRUE(rules_of().same_type.exact);
  probe_.info = W7900();
  EXPECT_FALSE(rules_of().same_type.exact);
  command_.device.batch_invariant = true;
  EXPECT_TRUE(rules_of().same_type.exact);
  EXPECT_FALSE(rules_of().fp8.exact);
}

TEST_F(Matrix, TheReferenceIsOtherCode) {
  const auto reference_of = [&] {
    return IsolationMatrix::Make(command_, model_, probe_, "/logs")->reference_plan();
  };
  const auto portable = reference_of();
  ASSERT_TRUE(portable);
  EXPECT_EQ(ValueOf(*portable, "--cpu-instruction-set"), "portable");
  EXPECT_EQ(ValueOf(*portable, "--kv-cache-dtype"), "bfloat16");
  EXPECT_EQ(portable->log, "/logs/reference.log");
  command_.inject_faults = {{1, Fault::kWrongText}};
  probe_.info = W7900();
  const auto cpu = reference_of();
  ASSERT_TRUE(cpu);
  EXPECT_EQ(ValueOf(*cpu, "--device"), "cpu");
  EXPECT_EQ(ValueOf(*cpu, "--cpu-instruction-set"), "");
  EXPECT_THAT(cpu->arguments, Not(Contains("--inject-fault")));
  model_.weight_bytes = uint64_t{16} << 30;
  EXPECT_FALSE(reference_of());
}

TEST_F(Matrix, AModelWithTooShortSequencesIsRefused) {
  model_.config->max_position_embeddings = PositionsPerRequest(16) - 1;
  const auto matrix = IsolationMatrix::Make(command_, model_, probe_, "/logs");
  ASSERT_FALSE(matrix);
  EXPECT_THAT(matrix.error().message(), HasSubstr("but the model has 161"));
}

TEST_F(Matrix, CellsThatDidNotRunCountAsInterrupted) {
  auto matrix = IsolationMatrix::Make(command_, model_, probe_, "/logs");
  ASSERT_TRUE(matrix);
  EXPECT_EQ(matrix->Judge().verdict.reading, Reading::kInterrupted);
}

}  // namespace
}  // namespace kvs
