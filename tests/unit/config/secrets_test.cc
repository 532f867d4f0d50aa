#include "config/secrets.h"

#include "parse_support.h"

namespace kvs::test {
namespace {

TEST(ApiKeyFile, OneKeyALine) {
  const TempDir dir;
  const auto keys = ReadApiKeyFile(dir.Write("keys", "# team a\nalpha\n\n  beta\t\r\ngamma"));
  ASSERT_TRUE(keys) << keys.error().message();
  EXPECT_EQ(*keys, (std::vector<std::string>{"alpha", "beta", "gamma"}));
}

TEST(ApiKeyFile, MessagesNameFileAndLineButNoKey) {
  const TempDir dir;
  const std::string path = dir.Write("keys", "good\nsec ret\n");
  const auto keys = ReadApiKeyFile(path);
  ASSERT_FALSE(keys);
  EXPECT_NE(keys.error().message().find(path + ":2"), std::string::npos);
  EXPECT_EQ(keys.error().message().find("sec"), std::string::npos);
}

TEST(ApiKeyFile, NothingInItIsAnError) {
  const TempDir dir;
  EXPECT_FALSE(ReadApiKeyFile(dir.Write("keys", "\n# none\n")));
  EXPECT_FALSE(ReadApiKeyFile(dir.Write("big", std::string(70000, 'k'))));
  EXPECT_FALSE(ReadApiKeyFile(dir.path().string()));
  EXPECT_FALSE(ReadApiKeyFile((dir.path() / "absent").string()));
}

TEST(TlsFiles, BothOrNone) {
  const TempDir dir;
  HttpOptions options;
  EXPECT_TRUE(CheckTlsFiles(options));
  options.ssl_certfile = dir.Write("cert.pem", "x");
  EXPECT_FALSE(CheckTlsFiles(options));
  options.ssl_keyfile = dir.Write("key.pem", "x");
  EXPECT_TRUE(CheckTlsFiles(options));
  options.ssl_certfile = (dir.path() / "absent").string();
  EXPECT_FALSE(CheckTlsFiles(options));
}

}  // namespace
}  // namespace kvs::test
