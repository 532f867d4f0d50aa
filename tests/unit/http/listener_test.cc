#include "http/listener.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "http_fixture.h"
#include "test_certificate.h"

namespace kvs {
namespace {

using testing::RawClient;
using testing::TestCertificate;

TEST(Listener, TakesAFreePortAndAccepts) {
  auto listener = Listener::Bind("127.0.0.1", 0);
  ASSERT_TRUE(listener) << listener.error().message();
  ASSERT_GT(listener->port(), 0);
  const FileDescriptor stop(eventfd(0, EFD_NONBLOCK));
  RawClient client(listener->port());
  EXPECT_TRUE(client.connected());
  EXPECT_TRUE(listener->Accept(stop.get()));
  const uint64_t one = 1;
  ASSERT_EQ(write(stop.get(), &one, sizeof one), 8);
  EXPECT_FALSE(listener->Accept(stop.get()));
}

TEST(Listener, TakenPortIsRefusedWithASentence) {
  const auto first = Listener::Bind("127.0.0.1", 0);
  ASSERT_TRUE(first);
  const auto second = Listener::Bind("127.0.0.1", first->port());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), Code::kCannotBind);
  EXPECT_NE(second.error().message().find("Address already in use"), std::string::npos)
      << second.error().message();
  EXPECT_NE(second.error().message().find(std::to_string(first->port())), std::string::npos);
}

TEST(Listener, BadHostsAreRefused) {
  for (const char* host : {"203.0.113.1", "no.such.host.invalid", "999.1.1.1"}) {
    const auto bound = Listener::Bind(host, 0);
    ASSERT_FALSE(bound) << host;
    EXPECT_EQ(bound.error().code(), Code::kCannotBind);
    EXPECT_NE(bound.error().message().find(host), std::string::npos);
  }
}

TEST(Listener, PortIsFreeAgainAfterwards) {
  uint16_t port = 0;
  {
    const auto first = Listener::Bind("127.0.0.1", 0);
    ASSERT_TRUE(first);
    port = first->port();
  }
  EXPECT_TRUE(Listener::Bind("127.0.0.1", port));
}

TEST(TlsContext, BadFilesAreNamed) {
  const TestCertificate good;
  const TestCertificate other;
  const std::string text_file = good.directory() + "/text";
  std::ofstream(text_file) << "not PEM";
  EXPECT_TRUE(LoadTlsContext(good.certfile(), good.keyfile()));
  const auto refusal = [](const std::string& certfile, const std::string& keyfile) {
    const auto loaded = LoadTlsContext(certfile, keyfile);
    EXPECT_FALSE(loaded);
    return loaded ? "" : loaded.error().message();
  };
  EXPECT_NE(refusal("/no/cert", good.keyfile()).find("/no/cert"), std::string::npos);
  EXPECT_NE(refusal(good.certfile(), "/no/key").find("/no/key"), std::string::npos);
  EXPECT_NE(refusal(good.certfile(), "").find("--ssl-keyfile is missing"), std::string::npos);
  EXPECT_NE(refusal("", good.keyfile()).find("--ssl-certfile is missing"), std::string::npos);
  EXPECT_NE(refusal(text_file, good.keyfile()).find(text_file), std::string::npos);
  EXPECT_NE(refusal(good.certfile(), text_file).find(text_file), std::string::npos);
  EXPECT_NE(refusal(good.certfile(), other.keyfile()).find(other.keyfile()), std::string::npos);
}

}  // namespace
}  // namespace kvs
