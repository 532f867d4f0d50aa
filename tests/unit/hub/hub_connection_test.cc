#include "hub/hub_connection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "stub_hub.h"

namespace kvs {
namespace {

using Follow = HubConnection::Follow;
using testing::HasSubstr;
using testing::Not;

HubConnection ConnectTo(const std::string& endpoint) {
  HubOptions options;
  options.endpoint = endpoint;
  options.token = "hf_secret";
  return *HubConnection::Make(options, {.attempts = 1});
}

std::string RedirectTo(const std::string& location) {
  return "HTTP/1.1 307 X\r\nConnection: close\r\nLocation: " + location +
         "\r\nContent-Length: 0\r\n\r\n";
}

TEST(HubConnection, FollowsRedirectsOnTheHubAndBeyond) {
  CannedServer other([](const CannedRequest& request) {
    EXPECT_THAT(request.head, Not(HasSubstr("hf_secret")));
    return std::vector<std::string>{CannedResponse(200, "there")};
  });
  CannedServer server([&](const CannedRequest& request) {
    EXPECT_THAT(request.head, HasSubstr("Bearer hf_secret"));
    const bool moved = request.head.find("GET /root/moved") == 0;
    return std::vector<std::string>{RedirectTo(moved ? "/root/here" : other.url() + "/x?a=b+c")};
  });
  HubConnection hub = ConnectTo(server.url() + "/root");
  const auto followed = hub.Once("/moved", {}, Follow::kEverywhere);
  ASSERT_TRUE(followed) << followed.error().message();
  EXPECT_EQ(followed->body, "there");
  const auto stayed = hub.Once("/moved", {}, Follow::kOnTheHub);
  ASSERT_TRUE(stayed);
  EXPECT_EQ(stayed->status, 307);
  EXPECT_THAT(std::string(stayed->Header("location")), HasSubstr("/x?a=b+c"));
}

TEST(HubConnection, ARedirectThatIsNoAddressIsRefused) {
  for (const char* location : {"", "ftp://host/x", "http://user@host/", "file:///etc/passwd"}) {
    CannedServer server(
        [&](const CannedRequest&) { return std::vector<std::string>{RedirectTo(location)}; });
    HubConnection hub = ConnectTo(server.url());
    const auto response = hub.Once("/x", {}, Follow::kEverywhere);
    ASSERT_FALSE(response) << location;
    EXPECT_EQ(response.error().code(), Code::kDataError);
  }
}

TEST(HubConnection, TheEndpointMustBeAUrl) {
  HubOptions options;
  options.endpoint = "huggingface.co";
  const auto hub = HubConnection::Make(options, {});
  ASSERT_FALSE(hub);
  EXPECT_EQ(hub.error().code(), Code::kConfigError);
  EXPECT_THAT(hub.error().message(), HasSubstr("HF_ENDPOINT"));
}

TEST(HubConnection, WhatAServerSaysIsCutAndEscaped) {
  CannedServer server([&](const CannedRequest&) {
    return StubHub::Refusal(403, "",
                            "X-Error-Message: no\x1b[31m" + std::string(5000, 'a') + "\r\n");
  });
  HubConnection hub = ConnectTo(server.url());
  const auto response = hub.Fetch({"org/tiny", "main", ""}, "/x", {}, Follow::kEverywhere);
  ASSERT_FALSE(response);
  EXPECT_LT(response.error().message().size(), 1000u);
  EXPECT_THAT(response.error().message(), Not(HasSubstr("\x1b")));
}

}  // namespace
}  // namespace kvs
