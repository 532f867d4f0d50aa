#include "doctor/model_checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "doctor_support.h"

namespace kvs {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

namespace fs = std::filesystem;

const fs::path kBundled = KVS_SOURCE_DIR "/models/default";

// A copy of the bundled model that a test may damage.
class ModelChecks : public testing::Test {
 protected:
  ModelChecks() { fs::copy(kBundled, dir_.path() / "m", fs::copy_options::recursive); }

  fs::path model() const { return dir_.path() / "m"; }
  CheckedModel Check() const { return CheckModel(model().string(), ""); }
  static std::vector<std::string> NamesOf(const CheckedModel& model, Outcome outcome) {
    std::vector<std::string> names;
    for (const kvs::Check& check : model.checks) {
      if (check.outcome == outcome) names.push_back(check.name);
      EXPECT_EQ(check.fix.empty(), check.outcome == Outcome::kOk) << check.name;
    }
    return names;
  }

  const TempDir dir_;
};

TEST_F(ModelChecks, TheBundledModelIsUsableAndHasNoScales) {
  const CheckedModel checked = Check();
  EXPECT_TRUE(checked.usable());
  EXPECT_THAT(NamesOf(checked, Outcome::kOk),
              ElementsAre("model files", "tokenizer", "chat template"));
  EXPECT_THAT(NamesOf(checked, Outcome::kWarn), ElementsAre("KV scales"));
  EXPECT_GT(checked.weight_bytes, 1000000u);
}

TEST_F(ModelChecks, ADirectoryThatIsNotThereFails) {
  const CheckedModel checked = CheckModel((dir_.path() / "none").string(), "");
  EXPECT_FALSE(checked.usable());
  EXPECT_THAT(NamesOf(checked, Outcome::kFail), ElementsAre("model files"));
}

TEST_F(ModelChecks, TruncatedWeightsAreNamed) {
  for (const auto& entry : fs::directory_iterator(model())) {
    if (entry.path().extension() == ".safetensors") fs::resize_file(entry.path(), 1000);
  }
  const CheckedModel checked = Check();
  EXPECT_FALSE(checked.usable());
  EXPECT_THAT(NamesOf(checked, Outcome::kFail), ElementsAre("model files"));
  EXPECT_THAT(checked.checks[0].finding, HasSubstr(".safetensors"));
}

TEST_F(ModelChecks, ATokenizerThatIsNoneFailsAndTheRestIsChecked) {
  WriteAll(model() / "tokenizer.json", "{}");
  const CheckedModel checked = Check();
  EXPECT_FALSE(checked.usable());
  EXPECT_THAT(NamesOf(checked, Outcome::kFail), ElementsAre("tokenizer"));
  EXPECT_THAT(checked.checks, SizeIs(4));
}

TEST_F(ModelChecks, AConfigThatIsNotSupportedFails) {
  WriteAll(model() / "config.json", R"({"architectures": ["GPT2LMHeadModel"]})");
  const CheckedModel checked = Check();
  EXPECT_FALSE(checked.config);
  EXPECT_THAT(NamesOf(checked, Outcome::kFail), ElementsAre("model files"));
  EXPECT_THAT(checked.checks[0].finding, HasSubstr("GPT2LMHeadModel"));
}

}  // namespace
}  // namespace kvs
