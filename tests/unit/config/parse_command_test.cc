// ParseCommand as users meet it: commands, spellings, and which source counts.
#include "parse_support.h"

namespace kvs::test {
namespace {

TEST(ParseCommand, NoArgumentsServeTheBundledModel) {
  const ServerOptions options = ParseServe({});
  EXPECT_EQ(options.model.model, "");
  EXPECT_EQ(options.http.host, "127.0.0.1");
  EXPECT_EQ(options.http.port, 8000);
  EXPECT_FALSE(options.cache.enable_prefix_caching);
  EXPECT_FALSE(options.cache.kv_cache_dtype.has_value());
}

TEST(ParseCommand, ModelStandsBeforeOrAfterFlagsAndServeIsOptional) {
  EXPECT_EQ(ParseServe({"dir", "--port", "1"}).model.model, "dir");
  EXPECT_EQ(ParseServe({"--port", "1", "dir"}).model.model, "dir");
  EXPECT_EQ(ParseServe({"serve", "dir", "--port=1"}).model.model, "dir");
  EXPECT_EQ(ParseServe({"serve", "--model", "dir"}).model.model, "dir");
  EXPECT_EQ(ParseServe({"--", "dir"}).model.model, "dir");
}

TEST(ParseCommand, TheArticlesCommandLine) {
  const ServerOptions options =
      ParseServe({"serve", "./Llama-3.1-8B-Instruct-FP8-KV", "--kv-cache-dtype", "fp8",
                  "--enable-prefix-caching", "--log-level", "debug"});
  EXPECT_EQ(options.model.model, "./Llama-3.1-8B-Instruct-FP8-KV");
  EXPECT_EQ(options.cache.kv_cache_dtype, KvCacheDType::kF8E4M3);
  EXPECT_TRUE(options.cache.enable_prefix_caching);
  EXPECT_EQ(options.log.level, "debug");
}

TEST(ParseCommand, UnderscoresAreDashes) {
  const ServerOptions options =
      ParseServe({"--kv_cache_dtype=fp8_e5m2", "--max_num_seqs", "7", "--enable_prefix_caching"});
  EXPECT_EQ(options.cache.kv_cache_dtype, KvCacheDType::kF8E5M2);
  EXPECT_EQ(options.scheduler.max_num_seqs, 7u);
  EXPECT_TRUE(options.cache.enable_prefix_caching);
}

TEST(ParseCommand, EveryKvDtypeHasItsName) {
  const std::vector<std::pair<std::string, std::optional<KvCacheDType>>> names = {
      {"auto", std::nullopt},
      {"bfloat16", KvCacheDType::kBf16},
      {"float16", KvCacheDType::kF16},
      {"float32", KvCacheDType::kF32},
      {"fp8", KvCacheDType::kF8E4M3},
      {"fp8_e4m3", KvCacheDType::kF8E4M3},
      {"fp8_e5m2", KvCacheDType::kF8E5M2}};
  for (const auto& [name, dtype] : names) {
    EXPECT_EQ(ParseServe({"--kv-cache-dtype", name}).cache.kv_cache_dtype, dtype) << name;
  }
}

TEST(ParseCommand, TheLastOfARepeatedFlagCounts) {
  EXPECT_EQ(ParseServe({"--port", "1", "--port", "2"}).http.port, 2);
  EXPECT_FALSE(ParseServe({"--enable-prefix-caching", "--no-enable-prefix-caching"})
                   .cache.enable_prefix_caching);
  EXPECT_TRUE(ParseServe({"--no-enable-prefix-caching", "--enable-prefix-caching"})
                  .cache.enable_prefix_caching);
}

TEST(ParseCommand, ListsGrow) {
  const ServerOptions options =
      ParseServe({"dir", "--served-model-name", "a", "b", "--api-key", "k1", "--api-key", "k2"});
  EXPECT_EQ(options.model.served_model_names, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(options.http.api_keys, (std::vector<std::string>{"k1", "k2"}));
  EXPECT_EQ(ParseServe({"--api-key", "k1", "dir"}).model.model, "dir");
}

TEST(ParseCommand, AModelAmongTheServedNamesIsRefused) {
  const TempDir dir;
  const auto command = Parse({"--served-model-name", "a", dir.path().string()});
  ASSERT_FALSE(command);
  EXPECT_NE(command.error().message().find("put the model before the flags"), std::string::npos);
}

TEST(ParseCommand, FlagOverVariableOverFileOverDefault) {
  const TempDir dir;
  const std::string file = dir.Write(
      "c.yaml", "port: 1\nmax_num_seqs: 1\nblock-size: 32\nenable_prefix_caching: true\n");
  const Variables variables(Pairs{{"KVSERVE_PORT", "2"}, {"KVSERVE_MAX_NUM_SEQS", "2"}});
  const ServerOptions options =
      ParseServe({"--config", file, "--port", "3", "--no-enable-prefix-caching"});
  EXPECT_EQ(options.http.port, 3);
  EXPECT_EQ(options.scheduler.max_num_seqs, 2u);
  EXPECT_EQ(options.cache.block_size, 32u);
  EXPECT_FALSE(options.cache.enable_prefix_caching);
  EXPECT_EQ(options.scheduler.max_num_batched_tokens, 2048u);
}

TEST(ParseCommand, AVariableMayNameTheFile) {
  const TempDir dir;
  const Variables variables(Pairs{{"KVSERVE_CONFIG", dir.Write("c.yaml", "port: 7\n")}});
  EXPECT_EQ(ParseServe({}).http.port, 7);
}

TEST(ParseCommand, HelpFitsOneScreenAndHelpAllNamesEveryFlag) {
  const auto help = Parse({"--help"});
  ASSERT_TRUE(help);
  const std::string& screen = std::get<PrintCommand>(*help).text;
  EXPECT_LE(std::count(screen.begin(), screen.end(), '\n'), 50);
  EXPECT_NE(screen.find("--kv-cache-dtype"), std::string::npos);
  EXPECT_EQ(screen.find("--cpu-instruction-set"), std::string::npos);
  const auto all = Parse({"serve", "--help-all"});
  ASSERT_TRUE(all);
  EXPECT_NE(std::get<PrintCommand>(*all).text.find("--cpu-instruction-set"), std::string::npos);
}

TEST(ParseCommand, VersionIsOneLine) {
  const auto version = Parse({"--version"});
  ASSERT_TRUE(version);
  EXPECT_EQ(std::get<PrintCommand>(*version).text.substr(0, 8), "kvserve ");
  const auto after_flags = Parse({"--port", "1", "--version"});
  ASSERT_TRUE(after_flags);
  EXPECT_TRUE(std::holds_alternative<PrintCommand>(*after_flags));
  const auto of_command = Parse({"bench", "--version"});
  ASSERT_TRUE(of_command) << of_command.error().message();
  EXPECT_TRUE(std::holds_alternative<PrintCommand>(*of_command));
}

TEST(ParseCommand, CheckCache) {
  const auto parsed = Parse({"check-cache", "http://h:1", "--prompt-tokens", "600", "--json"});
  ASSERT_TRUE(parsed);
  const auto& command = std::get<CheckCacheCommand>(*parsed);
  EXPECT_EQ(command.url, "http://h:1");
  EXPECT_EQ(command.prompt_tokens, 600u);
  EXPECT_EQ(command.max_tokens, 32u);
  EXPECT_TRUE(command.json);
}

TEST(ParseCommand, BenchTakesTheKeyFromTheEnvironment) {
  // Other variables describe a server and do not concern a client.
  const Variables variables(Pairs{{"KVSERVE_API_KEY", "k1,k2"}, {"KVSERVE_MODEL", "/models/x"}});
  const auto parsed = Parse({"bench", "https://h", "--request-rate", "2.5", "--num_prompts=9"});
  ASSERT_TRUE(parsed);
  const auto& command = std::get<BenchCommand>(*parsed);
  EXPECT_EQ(command.api_key, "k1");
  EXPECT_EQ(command.model, "");
  EXPECT_DOUBLE_EQ(command.request_rate, 2.5);
  EXPECT_EQ(command.num_prompts, 9u);
}

TEST(ParseCommand, Plan) {
  const auto parsed = Parse({"plan", "dir", "--memory", "8GiB", "--context", "32768"});
  ASSERT_TRUE(parsed);
  const auto& command = std::get<PlanCommand>(*parsed);
  EXPECT_EQ(command.model, "dir");
  EXPECT_EQ(command.memory_bytes, uint64_t{8} << 30);
  EXPECT_EQ(command.context, 32768u);
}

TEST(ParseCommand, Doctor) {
  // What is said of a server in the environment does not concern the doctor's.
  const Variables variables(Pairs{{"KVSERVE_PORT", "1"}});
  const auto parsed = Parse({"doctor", "dir", "--device", "hip", "--kv-cache-dtype", "fp8_e5m2",
                             "--no-matrix", "--inject-fault", "4:crash", "2:wrong-text"});
  ASSERT_TRUE(parsed) << parsed.error().message();
  const auto& command = std::get<DoctorCommand>(*parsed);
  EXPECT_EQ(command.model, "dir");
  EXPECT_EQ(command.device.device, DeviceKind::kHip);
  EXPECT_EQ(command.fp8_dtype, KvCacheDType::kF8E5M2);
  EXPECT_EQ(command.port, 8000);
  EXPECT_FALSE(command.matrix);
  EXPECT_FALSE(command.probe);
  ASSERT_EQ(command.inject_faults.size(), 2u);
  EXPECT_EQ(command.inject_faults[0].cell, 4u);
  EXPECT_EQ(command.inject_faults[0].fault, Fault::kCrash);
  EXPECT_EQ(command.inject_faults[1].cell, 2u);
  EXPECT_EQ(command.inject_faults[1].fault, Fault::kWrongText);
}

TEST(ParseCommand, TheDoctorsFaultsAreACellAndAFault) {
  for (const char* bad :
       {"crash", "0:crash", "5:crash", "4:", "4:boom", "4:none", ":crash", "x:hang"}) {
    const auto parsed = Parse({"doctor", "--inject-fault", bad});
    ASSERT_FALSE(parsed) << bad;
    EXPECT_EQ(parsed.error().code(), Code::kInvalidArgument);
    EXPECT_EQ(parsed.error().param(), "--inject-fault") << bad;
  }
  EXPECT_FALSE(Parse({"doctor", "--kv-cache-dtype", "bfloat16"}));
  EXPECT_FALSE(Parse({"doctor", "--timeout", "0"}));
}

TEST(ParseCommand, FlagsForTheIsolationCheck) {
  const auto options = ParseServe(
      {"--skip-isolation-check", "--simulate-architecture", "gfx1100", "--inject-fault", "no-hit"});
  EXPECT_TRUE(options.device.skip_isolation_check);
  EXPECT_EQ(options.device.simulate_architecture, "gfx1100");
  EXPECT_EQ(options.device.inject_fault, Fault::kNoHit);
  EXPECT_FALSE(ParseServe({}).device.inject_fault);
  EXPECT_FALSE(ParseServe({}).device.skip_isolation_check);
}

}  // namespace
}  // namespace kvs::test
