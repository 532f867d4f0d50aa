#include "net/proxy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "net/http_fetch.h"
#include "support/canned_server.h"

namespace kvs {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr char kProxy[] = "http://proxy.example:3128";

bool IsDirect(const std::string& url, const std::string& not_for) {
  const auto proxy = ProxyFor(*ParseUrl(url), {kProxy, kProxy, not_for});
  EXPECT_TRUE(proxy) << proxy.error().message();
  return !*proxy;
}

TEST(ProxyTest, IsChosenByTheServersScheme) {
  const ProxyOptions options{"http://a:1", "http://b:2", ""};
  EXPECT_EQ((*ProxyFor(*ParseUrl("https://x"), options))->server.ToString(), "http://a:1");
  EXPECT_EQ((*ProxyFor(*ParseUrl("http://x"), options))->server.ToString(), "http://b:2");
  EXPECT_FALSE(*ProxyFor(*ParseUrl("https://x"), ProxyOptions{}));
}

TEST(ProxyTest, IsReadWithAndWithoutCredentials) {
  const auto read = [](const std::string& text) {
    return **ProxyFor(*ParseUrl("https://x"), {text, "", ""});
  };
  EXPECT_EQ(read("HTTP://me:p%40ss:word@host:3128/").server.ToString(), "http://host:3128");
  EXPECT_EQ(read("http://me:p%40ss:word@host:3128").credentials, "me:p@ss:word");
  EXPECT_EQ(read("host").server.ToString(), "http://host:80");
  EXPECT_EQ(read("host").credentials, "");
  EXPECT_EQ(read("http://[::1]:8080").server.host, "::1");
}

TEST(ProxyTest, WhatIsNoProxyIsRefusedWithoutItsPassword) {
  for (const char* text : {"socks5://me:secret@host:1", "https://me:secret@host", "me:secret@",
                           "http://me:secret@host:port"}) {
    const auto proxy = ProxyFor(*ParseUrl("https://x"), {text, "", ""});
    ASSERT_FALSE(proxy) << text;
    EXPECT_EQ(proxy.error().code(), Code::kConfigError);
    EXPECT_THAT(proxy.error().message(), HasSubstr("HTTPS_PROXY"));
    EXPECT_THAT(proxy.error().message(), Not(HasSubstr("secret")));
  }
}

TEST(ProxyTest, NamesThatAreExempt) {
  EXPECT_FALSE(IsDirect("https://huggingface.co", ""));
  EXPECT_TRUE(IsDirect("https://huggingface.co", "*"));
  EXPECT_TRUE(IsDirect("https://huggingface.co", "localhost, huggingface.co"));
  EXPECT_TRUE(IsDirect("https://HuggingFace.co", ".huggingface.CO"));
  EXPECT_TRUE(IsDirect("https://cdn.huggingface.co", "huggingface.co"));
  EXPECT_TRUE(IsDirect("https://cdn.huggingface.co", "*.huggingface.co"));
  EXPECT_FALSE(IsDirect("https://nothuggingface.co", "huggingface.co"));
  EXPECT_FALSE(IsDirect("https://huggingface.co.evil.example", "huggingface.co"));
  EXPECT_TRUE(IsDirect("https://huggingface.co", "huggingface.co:443"));
  EXPECT_FALSE(IsDirect("https://huggingface.co", "huggingface.co:8443"));
  EXPECT_FALSE(IsDirect("https://huggingface.co", ",,. ,"));
}

TEST(ProxyTest, AddressesThatAreExempt) {
  EXPECT_TRUE(IsDirect("http://127.0.0.1:80", "127.0.0.1"));
  EXPECT_TRUE(IsDirect("http://127.0.0.1:80", "127.0.0.1:80"));
  EXPECT_FALSE(IsDirect("http://127.0.0.1:80", "127.0.0.1:81"));
  EXPECT_TRUE(IsDirect("http://10.1.2.3", "10.0.0.0/8"));
  EXPECT_TRUE(IsDirect("http://10.1.2.3", "10.1.2.0/23"));
  EXPECT_FALSE(IsDirect("http://10.1.4.3", "10.1.2.0/23"));
  EXPECT_FALSE(IsDirect("http://10.1.2.3", "10.0.0.0/99"));
  EXPECT_TRUE(IsDirect("http://[::1]:80", "::1"));
  EXPECT_TRUE(IsDirect("http://[::1]:80", "[0:0::1]:80"));
  EXPECT_FALSE(IsDirect("http://[::1]:80", "[::1]:81"));
  EXPECT_TRUE(IsDirect("http://[fd00::5]", "fd00::/8"));
  EXPECT_FALSE(IsDirect("http://10.1.2.3", "fd00::/8"));
}

TEST(ProxyTest, PlainRequestsNameTheServerToIt) {
  CannedServer proxy(
      [](const CannedRequest&) { return std::vector<std::string>{CannedResponse(200, "{}")}; });
  FetchRequest fetch;
  fetch.target = "/a%2Fb?c";
  const std::string address = "http://me:word@" + proxy.url().substr(7);
  const auto response = Fetch(*ParseUrl("http://hub.invalid"), "key", fetch, {"", address, ""});
  ASSERT_TRUE(response) << response.error().message();
  const std::string seen = proxy.requests().at(0).head;
  EXPECT_THAT(seen, HasSubstr("GET http://hub.invalid/a%2Fb?c HTTP/1.1\r\n"));
  EXPECT_THAT(seen, HasSubstr("Host: hub.invalid\r\n"));
  EXPECT_THAT(seen, HasSubstr("Proxy-Authorization: Basic bWU6d29yZA==\r\n"));
}

TEST(ProxyTest, TunnelsAreAskedForAndTheirRefusalIsExplained) {
  std::atomic<const char*> answer = "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n";
  CannedServer proxy([&](const CannedRequest&) { return std::vector<std::string>{answer.load()}; });
  const auto fetch = [&] {
    FetchRequest request;
    request.target = "/x";
    const auto response = Fetch(*ParseUrl("https://hub.invalid"), "token", request,
                                {"http://me:word@" + proxy.url().substr(7), "", ""});
    EXPECT_FALSE(response);
    EXPECT_EQ(response.error().code(), Code::kUnavailable);
    return response.error().message();
  };
  EXPECT_THAT(fetch(), HasSubstr(": the proxy " + proxy.url() + ": it wants USER:PASSWORD@"));
  const std::string seen = proxy.requests().at(0).head;
  EXPECT_THAT(seen, HasSubstr("CONNECT hub.invalid:443 HTTP/1.1\r\n"));
  EXPECT_THAT(seen, HasSubstr("\r\nProxy-Authorization: Basic bWU6d29yZA=="));
  EXPECT_THAT(seen, Not(HasSubstr("token")));
  answer = "HTTP/1.1 403 Forbidden\r\n\r\n";
  EXPECT_THAT(fetch(), HasSubstr("it refused the connection (403)"));
  answer = "SSH-2.0\r\n\r\n";
  EXPECT_THAT(fetch(), HasSubstr("its answer is no HTTP"));
  answer = "HTTP/1.1 200 OK\r\n\r\nno TLS";
  EXPECT_THAT(fetch(), HasSubstr("TLS handshake failed"));
}

}  // namespace
}  // namespace kvs
