#include "net/url.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace kvs {
namespace {

using testing::HasSubstr;

struct GoodCase {
  const char* text;
  bool tls;
  const char* host;
  uint16_t port;
  const char* root;
  const char* printed;
};

TEST(Url, AcceptsWhatServersPrint) {
  const GoodCase cases[] = {
      {"http://localhost:8000", false, "localhost", 8000, "", "http://localhost:8000"},
      {"http://localhost:8000/", false, "localhost", 8000, "", "http://localhost:8000"},
      {"http://localhost:8000/v1", false, "localhost", 8000, "", "http://localhost:8000"},
      {"http://localhost:8000/v1/", false, "localhost", 8000, "", "http://localhost:8000"},
      {"http://h", false, "h", 80, "", "http://h:80"},
      {"https://h", true, "h", 443, "", "https://h:443"},
      {"https://h/proxy/llm/v1", true, "h", 443, "/proxy/llm", "https://h:443/proxy/llm"},
      {"http://[::1]:65535", false, "::1", 65535, "", "http://[::1]:65535"},
      {"http://[fe80::a]", false, "fe80::a", 80, "", "http://[fe80::a]:80"},
      {"http://127.0.0.1:1", false, "127.0.0.1", 1, "", "http://127.0.0.1:1"},
  };
  for (const GoodCase& c : cases) {
    const auto url = ParseUrl(c.text);
    ASSERT_TRUE(url) << c.text << ": " << url.error().message();
    EXPECT_EQ(url->tls, c.tls) << c.text;
    EXPECT_EQ(url->host, c.host) << c.text;
    EXPECT_EQ(url->port, c.port) << c.text;
    EXPECT_EQ(url->root, c.root) << c.text;
    EXPECT_EQ(url->ToString(), c.printed);
  }
}

TEST(Url, SaysWhatIsWrong) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "no scheme"},
      {"localhost:8000", "no scheme"},
      {"ftp://h:1", "'ftp' is not known"},
      {"http://", "no host"},
      {"http://:8000", "no host"},
      {"http:///v1", "no host"},
      {"http://h:", "'h:' is not HOST:PORT"},
      {"http://h:0", "port '0'"},
      {"http://h:65536", "port '65536'"},
      {"http://h:80a", "port '80a'"},
      {"http://h:-1", "port '-1'"},
      {"http://::1:80", "is not HOST:PORT"},
      {"http://[::1", "is not HOST:PORT"},
      {"http://[::1]80", "is not HOST:PORT"},
      {"http://me:pw@h:1", "--api-key"},
      {"http://h:1?x=1", "query"},
      {"http://h:1/#top", "query or fragment"},
      {"http://h :1", "blank"},
      {"http://h:1\r\nX: y", "blank"},
  };
  for (const auto& [text, wrong] : cases) {
    const auto url = ParseUrl(text);
    ASSERT_FALSE(url) << text;
    EXPECT_EQ(url.error().code(), Code::kInvalidArgument);
    EXPECT_THAT(url.error().message(), HasSubstr(wrong)) << text;
    EXPECT_THAT(url.error().message(), HasSubstr("expected http://HOST:PORT")) << text;
  }
}

TEST(ParseAddress, KeepsPathAndQueryAsTheyAre) {
  const auto address = ParseAddress("https://cdn.example:444/a/v1?x=a+b%2F#fragment");
  ASSERT_TRUE(address) << address.error().message();
  EXPECT_EQ(address->server.ToString(), "https://cdn.example:444");
  EXPECT_EQ(address->target, "/a/v1?x=a+b%2F");
  EXPECT_EQ(ParseAddress("http://h")->target, "/");
  EXPECT_EQ(ParseAddress("http://h?x")->target, "/?x");
  EXPECT_EQ(ParseAddress("http://[::1]:8/x")->server.host, "::1");
}

TEST(ParseAddress, RefusesWhatIsNone) {
  for (const char* text : {"", "/x", "ftp://h/x", "http://", "http://u@h/", "http://h/a b",
                           "http://h/a\r\nX: 1", "http://h:0/"}) {
    EXPECT_FALSE(ParseAddress(text)) << text;
  }
}

TEST(PercentEncode, LeavesWhatIsPlain) {
  EXPECT_EQ(PercentEncode("aZ0-._~"), "aZ0-._~");
  EXPECT_EQ(PercentEncode("refs/pr/1 +%"), "refs%2Fpr%2F1%20%2B%25");
  EXPECT_EQ(PercentEncode("a/b", "/"), "a/b");
}

}  // namespace
}  // namespace kvs
