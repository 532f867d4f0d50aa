#include "net/http_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/canned_server.h"

namespace kvs {
namespace {

using testing::HasSubstr;

TEST(HttpClient, SendsPathKeyAndBody) {
  CannedServer server(
      [](const CannedRequest&) { return std::vector<std::string>{CannedResponse(200, "ok")}; });
  HttpClient client(*ParseUrl(server.url() + "/under/v1"), "secret");
  const auto response = client.Post("/v1/x", "{\"a\":1}");
  ASSERT_TRUE(response) << response.error().message();
  EXPECT_EQ(response->status, 200);
  EXPECT_EQ(response->body, "ok");
  const CannedRequest seen = server.requests().at(0);
  EXPECT_THAT(seen.head, HasSubstr("POST /under/v1/x HTTP/1.1\r\n"));
  EXPECT_THAT(seen.head, HasSubstr("Authorization: Bearer secret"));
  EXPECT_THAT(seen.head, HasSubstr("Content-Type: application/json"));
  EXPECT_EQ(seen.body, "{\"a\":1}");
}

TEST(HttpClient, AStatusThatIsNotOkIsAResult) {
  CannedServer server([](const CannedRequest& request) {
    EXPECT_EQ(request.head.find("Authorization"), std::string::npos);
    return std::vector<std::string>{CannedResponse(404, "nothing here")};
  });
  HttpClient client(*ParseUrl(server.url()), "");
  const auto response = client.Get("/x");
  ASSERT_TRUE(response);
  EXPECT_EQ(response->status, 404);
  EXPECT_EQ(response->body, "nothing here");
}

TEST(HttpClient, HandsOutAStreamPieceByPiece) {
  CannedServer server([](const CannedRequest&) { return CannedStream({"one", "two"}); });
  HttpClient client(*ParseUrl(server.url()), "");
  std::string body;
  const auto response = client.PostStream("/x", "{}", [&](std::string_view piece) {
    body += piece;
    return true;
  });
  ASSERT_TRUE(response) << response.error().message();
  EXPECT_EQ(response->status, 200);
  EXPECT_EQ(body, "data: one\n\ndata: two\n\n");
}

TEST(HttpClient, AStreamThatIsRefusedHasABody) {
  CannedServer server(
      [](const CannedRequest&) { return std::vector<std::string>{CannedResponse(503, "busy")}; });
  HttpClient client(*ParseUrl(server.url()), "");
  const auto response = client.PostStream("/x", "{}", [](std::string_view) {
    ADD_FAILURE() << "the body of an error is no stream";
    return true;
  });
  ASSERT_TRUE(response);
  EXPECT_EQ(response->status, 503);
  EXPECT_EQ(response->body, "busy");
}

TEST(HttpClient, StopsReadingWhenTold) {
  CannedServer server([](const CannedRequest&) { return CannedStream({"one", "two", "three"}); });
  HttpClient client(*ParseUrl(server.url()), "");
  int calls = 0;
  const auto response = client.PostStream("/x", "{}", [&](std::string_view) {
    ++calls;
    return false;
  });
  ASSERT_TRUE(response) << response.error().message();
  EXPECT_EQ(response->status, 200);
  EXPECT_EQ(calls, 1);
}

TEST(HttpClient, AConnectionCutInTheMiddleIsAnError) {
  CannedServer server([](const CannedRequest&) {
    auto pieces = CannedStream({"one", "two"});
    pieces.resize(2);
    return pieces;
  });
  HttpClient client(*ParseUrl(server.url()), "");
  const auto response = client.PostStream("/x", "{}", [](std::string_view) { return true; });
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().code(), Code::kUnavailable);
  EXPECT_THAT(response.error().message(), HasSubstr("closed before the response was complete"));
}

TEST(HttpClient, NoServerIsAnErrorThatNamesIt) {
  std::string url;
  {
    CannedServer gone([](const CannedRequest&) { return std::vector<std::string>{}; });
    url = gone.url();
  }
  HttpClient client(*ParseUrl(url), "");
  const auto response = client.Get("/health");
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().code(), Code::kUnavailable);
  EXPECT_THAT(response.error().message(), HasSubstr("GET " + url + "/health: "));
  EXPECT_THAT(response.error().message(), HasSubstr("refused"));
}

}  // namespace
}  // namespace kvs
