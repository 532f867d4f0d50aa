#include "config/flags.h"

#include <algorithm>
#include <set>

#include "parse_support.h"

namespace kvs::test {
namespace {

template <class Target>
void ExpectWholeTable(const std::vector<Flag<Target>>& flags) {
  std::set<std::string> names;
  for (const Flag<Target>& flag : flags) {
    const std::string name = flag.spec.name;
    EXPECT_TRUE(names.insert(name).second) << name << " stands twice";
    EXPECT_EQ(name.find('_'), std::string::npos) << name;
    EXPECT_EQ(flag.spec.value_name == nullptr, flag.spec.kind == FlagKind::kSwitch) << name;
    EXPECT_NE(flag.spec.help[0], '\0') << name;
    EXPECT_NE(std::string(flag.spec.help).back(), '.') << name;
    // The default that the help shows is a value that the flag takes.
    if (!flag.spec.default_text.empty()) {
      Target target;
      EXPECT_TRUE(flag.set(target, {flag.spec.default_text})) << name;
    }
  }
}

TEST(Flags, TablesAreWellFormed) {
  ExpectWholeTable(ServeFlags());
  ExpectWholeTable(CheckCacheFlags());
  ExpectWholeTable(BenchFlags());
  ExpectWholeTable(PlanFlags());
  ExpectWholeTable(DoctorFlags());
}

TEST(Flags, ChoicesListedFirstAreTheDefaults) {
  ServeSettings defaults;
  EXPECT_EQ(defaults.model.load_format, LoadFormat::kAuto);
  EXPECT_EQ(defaults.cache.block_size, 16u);
  EXPECT_EQ(defaults.scheduler.policy, SchedulingPolicy::kFcfs);
  EXPECT_EQ(defaults.device.device, DeviceKind::kAuto);
  EXPECT_EQ(defaults.device.cpu_instruction_set, "auto");
  EXPECT_EQ(defaults.log.level, "info");
  EXPECT_EQ(defaults.log.format, LogFormat::kAuto);
}

}  // namespace
}  // namespace kvs::test
