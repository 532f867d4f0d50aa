#include "config/environment.h"

#include "config/flags.h"
#include "parse_support.h"

namespace kvs::test {
namespace {

Result<std::vector<Setting>> Read(std::vector<const char*> entries) {
  entries.push_back(nullptr);
  std::vector<FlagSpec> specs;
  for (const auto& flag : ServeFlags()) specs.push_back(flag.spec);
  return ReadEnvironment(entries.data(), specs);
}

TEST(Environment, TakesItsPrefixAlone) {
  const auto settings = Read({"PATH=/bin", "KVSERVE_PORT=9", "XKVSERVE_PORT=1", "KVSERVE"});
  ASSERT_TRUE(settings);
  ASSERT_EQ(settings->size(), 1u);
  EXPECT_EQ((*settings)[0].name, "port");
  EXPECT_EQ((*settings)[0].where, "KVSERVE_PORT");
  EXPECT_EQ((*settings)[0].values, (std::vector<std::string>{"9"}));
}

TEST(Environment, ListsAreSplitAtCommasOthersAreNot) {
  const auto settings = Read({"KVSERVE_API_KEY=a,b", "KVSERVE_HOST=a,b"});
  ASSERT_TRUE(settings);
  EXPECT_EQ((*settings)[0].values, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ((*settings)[1].values, (std::vector<std::string>{"a,b"}));
}

TEST(Environment, SwitchesTakeTrueAndOne) {
  const Variables variables(Pairs{{"KVSERVE_ENABLE_PREFIX_CACHING", "1"}});
  EXPECT_TRUE(ParseServe({}).cache.enable_prefix_caching);
}

TEST(Environment, UnknownNamesGetASuggestion) {
  const auto settings = Read({"KVSERVE_KV_CACHE_DTYP=fp8"});
  ASSERT_FALSE(settings);
  EXPECT_EQ(settings.error().code(), Code::kConfigError);
  EXPECT_EQ(settings.error().message(),
            "KVSERVE_KV_CACHE_DTYP: unknown variable; did you mean 'KVSERVE_KV_CACHE_DTYPE'?");
}

TEST(Environment, KubernetesServiceLinksAreExplained) {
  for (const char* entry : {"KVSERVE_PORT=tcp://10.0.0.1:80", "KVSERVE_SERVICE_HOST=10.0.0.1",
                            "KVSERVE_PORT_80_TCP_ADDR=10.0.0.1"}) {
    const auto settings = Read({entry});
    ASSERT_FALSE(settings) << entry;
    EXPECT_NE(settings.error().message().find("enableServiceLinks"), std::string::npos);
  }
}

}  // namespace
}  // namespace kvs::test
