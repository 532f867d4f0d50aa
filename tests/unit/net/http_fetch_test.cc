#include "net/http_fetch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "support/canned_server.h"

namespace kvs {
namespace {

using testing::HasSubstr;

TEST(Fetch, SendsHeadersAndTheTargetAsItIs) {
  CannedServer server([](const CannedRequest&) {
    return std::vector<std::string>{CannedResponse(200, "0123456789")};
  });
  const Url url = *ParseUrl(server.url());
  FetchRequest fetch;
  fetch.target = "/a%2Fb?x=1+2,3'";
  fetch.headers = {{"Range", "bytes=7-"}};
  fetch.body_bytes_max = 4;
  const auto response = Fetch(url, "key", fetch);
  ASSERT_TRUE(response) << response.error().message();
  EXPECT_EQ(response->body, "0123") << "a body is cut where it grows too long";
  EXPECT_EQ(response->Header("content-TYPE"), "application/json");
  EXPECT_EQ(response->Header("absent"), "");
  const std::string seen = server.requests().at(0).head;
  EXPECT_THAT(seen, HasSubstr("GET /a%2Fb?x=1+2,3' HTTP/1.1\r\n"));
  EXPECT_THAT(seen, HasSubstr("Range: bytes=7-"));
}

TEST(Fetch, StreamsWhatTheHeadPromises) {
  CannedServer server([](const CannedRequest& request) {
    const bool good = request.head.find("/good") != std::string::npos;
    return std::vector<std::string>{CannedResponse(good ? 206 : 500, "body")};
  });
  const Url url = *ParseUrl(server.url());
  std::string streamed;
  FetchRequest fetch;
  fetch.on_head = [](const FetchResponse& head) { return head.status == 206; };
  fetch.on_data = [&](std::string_view piece) {
    streamed += piece;
    return true;
  };
  fetch.target = "/good";
  const auto good = Fetch(url, "key", fetch);
  ASSERT_TRUE(good);
  EXPECT_EQ(good->body, "");
  EXPECT_EQ(streamed, "body");
  fetch.target = "/bad";
  const auto bad = Fetch(url, "key", fetch);
  ASSERT_TRUE(bad);
  EXPECT_EQ(bad->body, "body");
  EXPECT_EQ(streamed, "body");
}

TEST(Fetch, ASignatureDoesNotGetIntoMessages) {
  std::string url;
  {
    CannedServer gone([](const CannedRequest&) { return std::vector<std::string>{}; });
    url = gone.url();
  }
  FetchRequest fetch;
  fetch.target = "/x?signature=secret";
  const auto response = Fetch(*ParseUrl(url), "key", fetch);
  ASSERT_FALSE(response);
  EXPECT_THAT(response.error().message(), HasSubstr(url + "/x: "));
  EXPECT_THAT(response.error().message(), testing::Not(HasSubstr("secret")));
}

TEST(Fetch, HeadersStayAsTheyWereSent) {
  CannedServer server([](const CannedRequest&) {
    return std::vector<std::string>{
        "HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 302 Found\r\nLocation:  /a%2Fb?c=%26+d \r\n"
        "Empty:\r\nContent-Length: 0\r\n\r\n"};
  });
  FetchRequest fetch;
  fetch.target = "/";
  const auto response = Fetch(*ParseUrl(server.url()), "", fetch);
  ASSERT_TRUE(response) << response.error().message();
  EXPECT_EQ(response->status, 302);
  EXPECT_EQ(response->Header("location"), "/a%2Fb?c=%26+d");
  EXPECT_EQ(response->Header("Empty"), "");
  EXPECT_EQ(response->Header("Link"), "");
}

TEST(Fetch, ReadsEveryFramingOfABody) {
  for (const char* framed :
       {"Content-Length: 6\r\n\r\nabcdef", "\r\nabcdef",
        "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n4;x=y\r\ncdef\r\n0\r\n\r\n"}) {
    // Byte by byte: no boundary of a packet means anything.
    CannedServer server([&](const CannedRequest&) {
      std::vector<std::string> pieces;
      for (const char c : "HTTP/1.1 200 OK\r\n" + std::string(framed)) pieces.emplace_back(1, c);
      return pieces;
    });
    FetchRequest fetch;
    fetch.target = "/";
    const auto response = Fetch(*ParseUrl(server.url()), "", fetch);
    ASSERT_TRUE(response) << response.error().message();
    EXPECT_EQ(response->body, "abcdef");
  }
}

TEST(Fetch, WhatIsNoCompleteResponseIsAnError) {
  for (const char* raw :
       {"", "HTTP/1.1 200", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: -7\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n"}) {
    CannedServer server([&](const CannedRequest&) { return std::vector<std::string>{raw}; });
    FetchRequest fetch;
    fetch.target = "/x";
    const auto response = Fetch(*ParseUrl(server.url()), "", fetch);
    ASSERT_FALSE(response) << raw;
    EXPECT_EQ(response.error().code(), Code::kUnavailable);
    EXPECT_THAT(response.error().message(), HasSubstr("GET " + server.url() + "/x: "));
  }
}

TEST(Fetch, AHeadThatNeverEndsIsCut) {
  CannedServer server([](const CannedRequest&) {
    std::vector<std::string> pieces = {"HTTP/1.1 200 OK\r\n"};
    for (int i = 0; i < 100; ++i) pieces.push_back("X: " + std::string(2000, 'x') + "\r\n");
    return pieces;
  });
  FetchRequest fetch;
  fetch.target = "/x";
  const auto response = Fetch(*ParseUrl(server.url()), "", fetch);
  ASSERT_FALSE(response);
  EXPECT_THAT(response.error().message(), HasSubstr("without an end"));
}

TEST(Fetch, ASilentServerIsGivenUp) {
  std::atomic<bool> done = false;
  CannedServer server([&](const CannedRequest&) {
    while (!done) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return std::vector<std::string>{};
  });
  FetchRequest fetch;
  fetch.target = "/x";
  const auto response = Fetch(*ParseUrl(server.url()), "", fetch, {}, {.silent_s = 1});
  done = true;
  ASSERT_FALSE(response);
  EXPECT_THAT(response.error().message(), HasSubstr("silent for 1 s"));
}

}  // namespace
}  // namespace kvs
