#include "config/config_file.h"

#include "config/flags.h"
#include "parse_support.h"

namespace kvs::test {
namespace {

Result<std::vector<Setting>> ParseText(const std::string& text) {
  std::vector<FlagSpec> specs;
  for (const auto& flag : ServeFlags()) specs.push_back(flag.spec);
  return ParseConfigText(text, "f.yaml", specs);
}

TEST(ConfigFile, TheArticlesTwoFilesLoad) {
  const TempDir dir;
  const std::string first = dir.Write("1.yaml",
                                      "# Minimal vLLM config for uncalibrated FP8 KV cache\n"
                                      "# Use as a serve argument or in a YAML config file\n"
                                      "kv_cache_dtype: \"fp8\"\n");
  EXPECT_EQ(ParseServe({"--config", first}).cache.kv_cache_dtype, KvCacheDType::kF8E4M3);
  const std::string second =
      dir.Write("2.yaml",
                "# Random-token calibration: compute KV scales on the fly\n"
                "kv_cache_dtype: \"fp8\"\n"
                "calculate_kv_scales: true # triggers on-the-fly scale computation at startup\n");
  const ServerOptions options = ParseServe({"--config", second});
  EXPECT_EQ(options.cache.kv_cache_dtype, KvCacheDType::kF8E4M3);
  EXPECT_TRUE(options.cache.calculate_kv_scales);
}

TEST(ConfigFile, ShippedFilesLoad) {
  size_t num_files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(KVS_SOURCE_DIR "/configs")) {
    if (entry.path().extension() != ".yaml") continue;
    ++num_files;
    const auto command = Parse({"--config", entry.path().string()});
    EXPECT_TRUE(command) << entry.path() << (command ? "" : command.error().message());
  }
  EXPECT_GE(num_files, 3u);
}

TEST(ConfigFile, TheFullFileHasEveryKeyWithItsDefault) {
  std::ifstream file(KVS_SOURCE_DIR "/configs/kvserve.yaml");
  std::string uncommented;
  size_t num_lines = 0;
  for (std::string line; std::getline(file, line);) {
    // "# key: value # comment" is a line to uncomment; prose has no "key: " of lower case.
    const size_t colon = line.find(": ");
    if (line.rfind("# ", 0) != 0 || colon == std::string::npos) continue;
    const std::string key = line.substr(2, colon - 2);
    if (key.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") != std::string::npos) continue;
    uncommented += line.substr(2) + "\n";
    ++num_lines;
  }
  const auto settings = ParseText(uncommented);
  ASSERT_TRUE(settings) << settings.error().message();
  EXPECT_EQ(settings->size(), num_lines);
  for (const auto& flag : ServeFlags()) {
    const std::string name = flag.spec.name;
    if (name == "config" || name == "api-key") continue;
    if (name == "kv-cache-dtype" || name == "enable-prefix-caching") continue;  // set in the file
    const auto found = std::find_if(settings->begin(), settings->end(),
                                    [&](const auto& s) { return s.name == name; });
    ASSERT_NE(found, settings->end()) << name << " is not in the file";
    ServeSettings target;
    EXPECT_TRUE(flag.set(target, found->values)) << name;
    if (!flag.spec.default_text.empty() && name != "max-body-bytes") {
      EXPECT_EQ(found->values.back(), flag.spec.default_text) << name;
    }
  }
}

TEST(ConfigFile, ListsAndScalarsFillALMultiValueKey) {
  const TempDir dir;
  const std::string file =
      dir.Write("c.yaml", "served_model_name: [a, b]\napi-key: k1\nkv_cache_memory_bytes: 64M\n");
  const ServerOptions options = ParseServe({"--config", file});
  EXPECT_EQ(options.model.served_model_names, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(options.http.api_keys, (std::vector<std::string>{"k1"}));
  EXPECT_EQ(options.cache.kv_cache_memory_bytes, uint64_t{64} << 20);
}

TEST(ConfigFile, EmptyFilesSayNothing) {
  for (const char* text : {"", "\n", "# nothing\n", "---\n"}) {
    const auto settings = ParseText(text);
    ASSERT_TRUE(settings) << text;
    EXPECT_TRUE(settings->empty());
  }
}

TEST(ConfigFile, ErrorsNameTheLine) {
  const auto settings = ParseText("port: 1\n\nhost: [a]\n");
  ASSERT_FALSE(settings);
  EXPECT_EQ(settings.error().message(), "f.yaml:3: host: expected one value, got a list");
}

TEST(ConfigFile, HostileFilesAreRefused) {
  EXPECT_FALSE(ParseText(std::string(kConfigFileBytesMax + 1, '#')));
  EXPECT_FALSE(ParseText(std::string(100000, '[')));
  EXPECT_FALSE(ParseText("port: 1\n---\nport: 2\n"));
  EXPECT_FALSE(ParseText(std::string("port: \0 1\n\x01", 11)));
}

}  // namespace
}  // namespace kvs::test
