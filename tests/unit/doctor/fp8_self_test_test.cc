#include "doctor/fp8_self_test.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "cpu/cpu_features.h"
#include "support/host_backend.h"

namespace kvs {
namespace {

using testing::Contains;
using testing::HasSubstr;

// A device that does wrong what the test looks at: what is stored, and what is read.
class WrongBackend final : public test::HostBackend {
 public:
  using Store = uint8_t (*)(uint8_t code);
  using Read = float (*)(float value);

  // `read` strikes in steps of at least `min_seqs` sequences: only keys are read 256 at a time.
  WrongBackend(Store store, Read read, uint32_t min_seqs = 0)
      : store_(store), read_(read), min_seqs_(min_seqs) {
    inner_ = *MakeCpuBackend({.num_threads = 1, .instruction_set = "portable"});
  }

  void RopeKvStore(const RopeKvStoreParams& params) override {
    inner_->RopeKvStore(params);
    if (store_ == nullptr) return;
    auto* codes = static_cast<uint8_t*>(params.kv.data);
    const KvLayout& layout = params.kv.layout;
    for (size_t i = 0; i < 4 * layout.LayerBlockBytes(); ++i) codes[i] = store_(codes[i]);
  }
  void PagedAttention(const PagedAttentionParams& params) override {
    inner_->PagedAttention(params);
    if (read_ == nullptr || params.num_seqs < min_seqs_) return;
    auto* out = static_cast<float*>(params.out);
    const uint32_t width = params.num_heads * params.kv.layout.head_dim;
    for (size_t i = 0; i < size_t{params.num_tokens} * width; ++i) out[i] = read_(out[i]);
  }

  Result<DeviceBuffer> Allocate(size_t bytes, const char* what) override {
    return inner_->Allocate(bytes, what);
  }
  Result<void> Reserve(const BackendLimits& limits) override { return inner_->Reserve(limits); }

 private:
  const Store store_;
  const Read read_;
  const uint32_t min_seqs_;
  std::unique_ptr<Backend> inner_;
};

Fp8SelfTestReport RunOn(Backend& backend, KvCacheDType dtype, const Fp8SelfTestShape& shape = {}) {
  const auto test = Fp8SelfTest::Make(backend, shape);
  EXPECT_TRUE(test) << test.error().message();
  const auto report = (*test)->Run(dtype);
  EXPECT_TRUE(report) << report.error().message();
  return *report;
}

struct Setup {
  KvCacheDType dtype;
  Fp8SelfTestShape shape;
};

class Fp8SelfTestOnCpu : public testing::TestWithParam<Setup> {};

TEST_P(Fp8SelfTestOnCpu, PassesWithEveryInstructionSet) {
  for (const auto set : cpu::kInstructionSets) {
    if (set > cpu::BestInstructionSet()) continue;
    const auto backend =
        MakeCpuBackend({.num_threads = 2, .instruction_set = std::string(ToString(set))});
    ASSERT_TRUE(backend);
    const Fp8SelfTestReport report = RunOn(**backend, GetParam().dtype, GetParam().shape);
    EXPECT_EQ(report.num_failed, 0u) << ToString(set);
    EXPECT_THAT(report.failures, testing::IsEmpty());
    // 256 codes as V in three shapes of a step, and some of them in several rows.
    EXPECT_GE(report.num_decoded, 3u * 256);
    EXPECT_GE(report.num_encoded, 1000u);
    EXPECT_EQ(report.dtype, GetParam().dtype);
  }
}

constexpr KvCacheDType kE4M3 = KvCacheDType::kF8E4M3, kE5M2 = KvCacheDType::kF8E5M2;
INSTANTIATE_TEST_SUITE_P(Shapes, Fp8SelfTestOnCpu,
                         testing::Values(Setup{kE4M3, {}}, Setup{kE5M2, {}},
                                         Setup{kE4M3, {128, 4, 32}}, Setup{kE5M2, {96, 1, 64}},
                                         Setup{kE4M3, {256, 2, 16}}, Setup{kE5M2, {16, 8, 16}}));

// What AMD's FNUZ format makes of the same bits: half the value, and 0x80 is no number.
TEST(Fp8SelfTest, FindsAnotherFormatBehindTheSameBits) {
  WrongBackend fnuz(nullptr, [](float value) { return value / 2; });
  const Fp8SelfTestReport report = RunOn(fnuz, kE4M3);
  EXPECT_GT(report.num_failed, 1000u);
  EXPECT_EQ(report.failures.size(), 4u);
  EXPECT_THAT(report.failures, Contains(HasSubstr("V of code")));
}

TEST(Fp8SelfTest, FindsACodeThatIsNeighbourToTheRightOne) {
  WrongBackend rounds_up([](uint8_t code) { return code == 0x38 ? uint8_t{0x39} : code; }, nullptr);
  const Fp8SelfTestReport report = RunOn(rounds_up, kE4M3);
  EXPECT_GT(report.num_failed, 0u);
  EXPECT_THAT(report.failures, Contains("K 0.96875 was stored as code 0x39, not 0x38"));
  EXPECT_THAT(report.failures, Contains("V 0.96875 was stored as code 0x39, not 0x38"));
}

TEST(Fp8SelfTest, FindsAnInfinityThatWasNotClipped) {
  WrongBackend keeps([](uint8_t code) { return code == 0x7b ? uint8_t{0x7c} : code; }, nullptr);
  EXPECT_GT(RunOn(keeps, kE5M2).num_failed, 0u);
}

TEST(Fp8SelfTest, FindsANumberWhereNoneIs) {
  WrongBackend zeroes(nullptr, [](float value) { return std::isfinite(value) ? value : 0.0f; });
  const Fp8SelfTestReport report = RunOn(zeroes, kE4M3);
  EXPECT_EQ(report.num_failed, 2u * (1 + 20 + 4));  // 0x7f and 0xff in each row
  EXPECT_THAT(report.failures,
              Contains("V of code 0x7f is nan and was read as 0 by a decode step"));
}

TEST(Fp8SelfTest, FindsAKeyThatIsOneCodeOff) {
  // The sigmoid of a score near 2 that is one E4M3 step too large: what V would never show.
  WrongBackend off(
      nullptr, [](float value) { return value > 0.8f && value < 1.0f ? value + 0.0131f : value; },
      256);
  const Fp8SelfTestReport report = RunOn(off, kE4M3);
  EXPECT_GT(report.num_failed, 0u);
  EXPECT_THAT(report.failures, Contains(HasSubstr("K of code")));
}

}  // namespace
}  // namespace kvs
