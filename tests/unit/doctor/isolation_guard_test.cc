#include "doctor/isolation_guard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "doctor_support.h"

namespace kvs {
namespace {

using testing::HasSubstr;
using testing::Not;

IsolationQuestion OnW7900() {
  return {.info = W7900(),
          .kernel_driver = "6.8.5",
          .version = "0.1.0",
          .kv_dtype = KvCacheDType::kF8E4M3,
          .enable_prefix_caching = true,
          .mode = "",
          .model = "org/llama"};
}

IsolationRecord RecordFor(const IsolationQuestion& question, bool passed) {
  return {IsolationKeyOf(question.info, question.kernel_driver, question.version, question.kv_dtype,
                         question.mode),
          passed, "interaction bug: together they fail", "m", "2026-01-02T03:04:05Z"};
}

std::string Refusal(const IsolationQuestion& question, const Result<std::string>& state_dir) {
  const auto allowed = CheckIsolation(question, state_dir);
  EXPECT_FALSE(allowed);
  if (allowed) return {};
  EXPECT_EQ(allowed.error().code(), Code::kUnavailable);
  return allowed.error().message();
}

TEST(IsolationGuard, ThePairOnRdna3IsAffected) {
  const struct {
    const char* architecture;
    KvCacheDType dtype;
    bool prefix;
    bool affected;
  } cases[] = {
      {"gfx1100", KvCacheDType::kF8E4M3, true, true},
      {"gfx1100", KvCacheDType::kF8E5M2, true, true},
      {"gfx1101", KvCacheDType::kF8E4M3, true, true},
      {"gfx1151", KvCacheDType::kF8E4M3, true, true},
      {"gfx1100", KvCacheDType::kF8E4M3, false, false},
      {"gfx1100", KvCacheDType::kBf16, true, false},
      {"gfx1100", KvCacheDType::kF16, true, false},
      {"gfx1030", KvCacheDType::kF8E4M3, true, false},
      {"gfx1201", KvCacheDType::kF8E4M3, true, false},
      {"gfx90a", KvCacheDType::kF8E4M3, true, false},
      {"gfx942", KvCacheDType::kF8E4M3, true, false},
      {"sm_90", KvCacheDType::kF8E4M3, true, false},
      {"avx512", KvCacheDType::kF8E4M3, true, false},
  };
  const TempDir state;
  for (const auto& c : cases) {
    IsolationQuestion question = OnW7900();
    question.info.architecture = c.architecture;
    question.kv_dtype = c.dtype;
    question.enable_prefix_caching = c.prefix;
    EXPECT_EQ(IsAffectedPair(question.info, c.dtype, c.prefix), c.affected) << c.architecture;
    EXPECT_EQ(!CheckIsolation(question, state.path().string()), c.affected) << c.architecture;
  }
}

TEST(IsolationGuard, TheRefusalSaysWhatToDo) {
  const TempDir state;
  const std::string said = Refusal(OnW7900(), state.path().string());
  EXPECT_THAT(said, HasSubstr("--kv-cache-dtype fp8_e4m3 with --enable-prefix-caching on AMD "
                              "Radeon PRO W7900 (gfx1100)"));
  EXPECT_THAT(said, HasSubstr("`kvserve doctor --model org/llama --device hip`"));
  EXPECT_THAT(said, HasSubstr("--skip-isolation-check"));
  EXPECT_THAT(said, HasSubstr("has not been run here with driver 6.3, kernel module 6.8.5 and "
                              "kvserve 0.1.0"));
}

TEST(IsolationGuard, TheCommandNamesWhatIsNotTheDefault) {
  const TempDir state;
  IsolationQuestion question = OnW7900();
  question.info.index = 2;
  question.kv_dtype = KvCacheDType::kF8E5M2;
  question.model.clear();
  DeviceOptions options;
  options.batch_invariant = options.enforce_eager = true;
  question.mode = IsolationModeOf(options);
  EXPECT_THAT(Refusal(question, state.path().string()),
              HasSubstr("`kvserve doctor --device hip --device-index 2 --kv-cache-dtype fp8_e5m2 "
                        "--batch-invariant --enforce-eager`"));
}

TEST(IsolationGuard, APassOfTheDoctorOpensIt) {
  const TempDir state;
  ASSERT_TRUE(WriteIsolationRecord(state.path(), RecordFor(OnW7900(), true)));
  EXPECT_TRUE(CheckIsolation(OnW7900(), state.path().string()));
}

TEST(IsolationGuard, AFailureKeepsItShutAndIsRepeated) {
  const TempDir state;
  ASSERT_TRUE(WriteIsolationRecord(state.path(), RecordFor(OnW7900(), false)));
  EXPECT_THAT(Refusal(OnW7900(), state.path().string()),
              HasSubstr("failed here on 2026-01-02T03:04:05Z: interaction bug"));
}

TEST(IsolationGuard, APassHoldsForWhatWasTestedAlone) {
  const TempDir state;
  ASSERT_TRUE(WriteIsolationRecord(state.path(), RecordFor(OnW7900(), true)));
  IsolationQuestion newer_driver = OnW7900(), newer_kvserve = OnW7900(), e5m2 = OnW7900(),
                    eager = OnW7900();
  newer_driver.info.driver = "6.4";
  newer_kvserve.version = "0.2.0";
  e5m2.kv_dtype = KvCacheDType::kF8E5M2;
  eager.mode = "--enforce-eager";
  for (const IsolationQuestion& question : {newer_driver, newer_kvserve, e5m2, eager}) {
    EXPECT_THAT(Refusal(question, state.path().string()), HasSubstr("has not been run here"));
  }
}

TEST(IsolationGuard, WithoutAStateDirectoryThePairIsRefusedAndOthersAreNot) {
  const Result<std::string> none = Error(Code::kConfigError, "XDG_STATE_HOME: not set");
  EXPECT_THAT(Refusal(OnW7900(), none), HasSubstr("XDG_STATE_HOME: not set"));
  IsolationQuestion harmless = OnW7900();
  harmless.enable_prefix_caching = false;
  EXPECT_TRUE(CheckIsolation(harmless, none));
}

}  // namespace
}  // namespace kvs
