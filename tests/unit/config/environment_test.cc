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

HubOptions HubOf(std::vector<const char*> environment) {
  environment.push_back(nullptr);
  const auto options = ReadHubEnvironment(environment.data());
  EXPECT_TRUE(options) << options.error().message();
  return options.value_or(HubOptions{});
}

TEST(HubEnvironment, TheCacheIsWhereItsOtherUsersLook) {
  EXPECT_EQ(HubOf({"HOME=/home/me"}).cache_dir, "/home/me/.cache/huggingface/hub");
  EXPECT_EQ(HubOf({"HOME=/home/me", "XDG_CACHE_HOME=/x"}).cache_dir, "/x/huggingface/hub");
  EXPECT_EQ(HubOf({"HOME=/home/me", "XDG_CACHE_HOME=/x", "HF_HOME=~/hf"}).cache_dir,
            "/home/me/hf/hub");
  EXPECT_EQ(HubOf({"HF_HOME=/hf", "HUGGINGFACE_HUB_CACHE=/old"}).cache_dir, "/old");
  EXPECT_EQ(HubOf({"HF_HOME=/hf", "HUGGINGFACE_HUB_CACHE=/old", "HF_HUB_CACHE=/c"}).cache_dir,
            "/c");
  const char* nothing[] = {nullptr};
  const auto without_home = ReadHubEnvironment(nothing);
  ASSERT_FALSE(without_home);
  EXPECT_EQ(without_home.error().code(), Code::kConfigError);
}

TEST(CacheDir, IsTheUsersOrNone) {
  const auto dir_of = [](std::vector<const char*> environment) {
    environment.push_back(nullptr);
    return CacheDirOf(environment.data());
  };
  EXPECT_EQ(dir_of({"HOME=/home/me"}), "/home/me/.cache/kvserve");
  EXPECT_EQ(dir_of({"HOME=/home/me", "XDG_CACHE_HOME=/x"}), "/x/kvserve");
  EXPECT_EQ(dir_of({"HOME=/home/me", "XDG_CACHE_HOME="}), "/home/me/.cache/kvserve");
  EXPECT_EQ(dir_of({"HOME=/home/me", "XDG_CACHE_HOME=here"}), "/home/me/.cache/kvserve");
  EXPECT_EQ(dir_of({"HOME="}), "");
  EXPECT_EQ(dir_of({}), "");
}

TEST(HubEnvironment, EndpointAndOffline) {
  EXPECT_EQ(HubOf({"HF_HOME=/h"}).endpoint, "https://huggingface.co");
  EXPECT_EQ(HubOf({"HF_HOME=/h", "HF_ENDPOINT=http://mirror:80//"}).endpoint, "http://mirror:80");
  EXPECT_FALSE(HubOf({"HF_HOME=/h"}).offline);
  for (const char* yes : {"HF_HUB_OFFLINE=1", "HF_HUB_OFFLINE=True", "TRANSFORMERS_OFFLINE=ON"}) {
    EXPECT_TRUE(HubOf({"HF_HOME=/h", yes}).offline) << yes;
  }
  EXPECT_FALSE(HubOf({"HF_HOME=/h", "HF_HUB_OFFLINE=0", "TRANSFORMERS_OFFLINE=1"}).offline);
}

TEST(HubEnvironment, ProxiesInSmallLettersCountOverCapitals) {
  EXPECT_EQ(HubOf({"HF_HOME=/h"}).proxy.for_https, "");
  const auto both = HubOf({"HF_HOME=/h", "HTTPS_PROXY=http://a", "https_proxy=http://b",
                           "HTTP_PROXY=http://c", "NO_PROXY=d"})
                        .proxy;
  EXPECT_EQ(both.for_https, "http://b");
  EXPECT_EQ(both.for_http, "http://c");
  EXPECT_EQ(both.not_for, "d");
  const auto all = HubOf({"HF_HOME=/h", "ALL_PROXY=http://a", "http_proxy=http://b"}).proxy;
  EXPECT_EQ(all.for_https, "http://a");
  EXPECT_EQ(all.for_http, "http://b");
}

TEST(HubEnvironment, TheTokenIsTrimmedAndNeverShown) {
  const TempDir dir;
  const std::string home = "HF_HOME=" + dir.path().string();
  EXPECT_EQ(HubOf({home.c_str()}).token, "");
  dir.Write("token", "hf_file\n");
  EXPECT_EQ(HubOf({home.c_str()}).token, "hf_file");
  const std::string other = "HF_TOKEN_PATH=" + dir.Write("other", " hf_other ");
  EXPECT_EQ(HubOf({home.c_str(), other.c_str()}).token, "hf_other");
  EXPECT_EQ(HubOf({home.c_str(), "HF_TOKEN=hf_given\r\n"}).token, "hf_given");
  for (const char* bad : {"HF_TOKEN=two words", "HF_TOKEN=line\nX-Evil: 1"}) {
    const char* environment[] = {home.c_str(), bad, nullptr};
    const auto refused = ReadHubEnvironment(environment);
    ASSERT_FALSE(refused) << bad;
    EXPECT_EQ(refused.error().message().find("two"), std::string::npos);
    EXPECT_EQ(refused.error().message().find("Evil"), std::string::npos);
  }
}

TEST(StateDir, IsWhereTheDesktopStandardPutsIt) {
  const auto dir_of = [](std::vector<const char*> entries) {
    entries.push_back(nullptr);
    return ReadStateDir(entries.data());
  };
  EXPECT_EQ(*dir_of({"HOME=/home/me"}), "/home/me/.local/state/kvserve");
  EXPECT_EQ(*dir_of({"HOME=/home/me", "XDG_STATE_HOME=/var/lib"}), "/var/lib/kvserve");
  EXPECT_EQ(*dir_of({"HOME=/home/me", "XDG_STATE_HOME="}), "/home/me/.local/state/kvserve");
  EXPECT_EQ(*dir_of({"HOME=/home/me", "XDG_STATE_HOME=rel"}), "/home/me/.local/state/kvserve");
  const auto nowhere = dir_of({"PATH=/bin"});
  ASSERT_FALSE(nowhere);
  EXPECT_EQ(nowhere.error().code(), Code::kConfigError);
}

}  // namespace
}  // namespace kvs::test
