// The server as a client on the loopback sees it.
#include "http/server.h"

#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include <atomic>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "http_fixture.h"
#include "test_certificate.h"

namespace kvs {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using testing::Eventually;
using testing::GetText;
using testing::HttpServerTest;
using testing::PostText;
using testing::RawClient;
using testing::StatusOf;
using testing::TestCertificate;

json BodyOf(const std::string& answer) {
  return json::parse(answer.substr(answer.find("\r\n\r\n") + 4));
}

std::string StreamText(int max_tokens) {
  return PostText("/v1/completions", R"({"prompt":"abc","stream":true,"max_tokens":)" +
                                         std::to_string(max_tokens) + "}");
}

TEST_F(HttpServerTest, AnswersACompletion) {
  Start();
  const std::string answer =
      Ask(PostText("/v1/completions", R"({"prompt":"abc"})", "X-Request-Id: mine\r\n"));
  EXPECT_EQ(StatusOf(answer), 200);
  EXPECT_NE(answer.find("X-Request-Id: mine\r\n"), std::string::npos);
  EXPECT_NE(answer.find("Content-Type: application/json\r\n"), std::string::npos);
  EXPECT_EQ(BodyOf(answer)["choices"][0]["text"], "Hello, world");
  EXPECT_EQ(BodyOf(answer)["id"], "cmpl-mine");
}

TEST_F(HttpServerTest, StreamsServerSentEvents) {
  Start();
  const std::string answer = Ask(StreamText(5));
  EXPECT_EQ(StatusOf(answer), 200);
  EXPECT_NE(answer.find("Content-Type: text/event-stream"), std::string::npos);
  EXPECT_NE(answer.find("Transfer-Encoding: chunked"), std::string::npos);
  EXPECT_NE(answer.find("data: [DONE]\n\n"), std::string::npos);
}

TEST_F(HttpServerTest, TokensArriveAsTheyAreMade) {
  engine_.step = std::chrono::microseconds(50000);
  Start();
  RawClient client(server_->port());
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_TRUE(client.Send(StreamText(20)));
  EXPECT_NE(client.ReadUntil("data: ").find("200"), std::string::npos);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, milliseconds(500));
}

TEST_F(HttpServerTest, TakenPortFailsAtBind) {
  Start();
  HttpOptions options;
  options.port = server_->port();
  const auto second = HttpServer::Bind(options);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), Code::kCannotBind);
}

TEST_F(HttpServerTest, MissingTlsFileFailsAtBind) {
  context_.options.ssl_certfile = "/no/such/cert.pem";
  context_.options.ssl_keyfile = "/no/such/key.pem";
  const auto bound = HttpServer::Bind(context_.options);
  ASSERT_FALSE(bound);
  EXPECT_NE(bound.error().message().find("/no/such/cert.pem"), std::string::npos);
}

TEST_F(HttpServerTest, ClientThatLeavesAStreamCancelsIt) {
  engine_.endless = true;
  engine_.info_.max_model_len = 1 << 20;
  engine_.info_.kv_pool_tokens = 1 << 20;
  Start();
  {
    RawClient client(server_->port());
    ASSERT_TRUE(client.Send(StreamText(1000000)));
    ASSERT_NE(client.ReadUntil("data: "), "");
  }
  EXPECT_TRUE(Eventually([this] { return engine_.num_cancelled() == 1; }));
  EXPECT_TRUE(Eventually([this] { return server_->num_active_requests() == 0; }));
}

TEST_F(HttpServerTest, ClientThatLeavesAWholeAnswerCancelsIt) {
  engine_.silent = true;
  Start();
  {
    RawClient client(server_->port());
    ASSERT_TRUE(client.Send(PostText("/v1/completions", R"({"prompt":["a","b"],"n":2})")));
    ASSERT_TRUE(Eventually([this] { return engine_.num_live() == 4; }));
    EXPECT_EQ(server_->num_active_requests(), 1u);
  }
  EXPECT_TRUE(Eventually([this] { return engine_.num_cancelled() == 4; }));
}

TEST_F(HttpServerTest, ReaderThatDoesNotReadIsDropped) {
  context_.options.send_timeout_s = 1;
  engine_.endless = true;
  engine_.step = std::chrono::microseconds(1);
  engine_.info_.max_model_len = 1 << 30;
  engine_.info_.kv_pool_tokens = 1 << 30;
  Start();
  RawClient client(server_->port());
  ASSERT_TRUE(client.Send(PostText(
      "/v1/completions", R"({"prompt":"abc","stream":true,"max_tokens":1000000000,"n":64})")));
  EXPECT_TRUE(Eventually([this] { return engine_.num_live() == 64; }));
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (engine_.num_live() > 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(milliseconds(20));
  }
  EXPECT_EQ(engine_.num_live(), 0u);
}

TEST_F(HttpServerTest, ManyStreamsSomeOfThemCut) {
  Start();
  std::vector<std::thread> clients;
  std::atomic<int> num_whole{0};
  for (int i = 0; i < 48; ++i) {
    clients.emplace_back([this, i, &num_whole] {
      RawClient client(server_->port());
      client.Send(StreamText(50));
      if (i % 4 == 0) {
        client.ReadUntil("data: ");
        return;
      }
      const std::string answer = client.ReadAnswer(20000);
      num_whole += answer.find("data: [DONE]") != std::string::npos;
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(num_whole, 36);
  EXPECT_TRUE(Eventually([this] { return engine_.num_live() == 0; }));
  EXPECT_TRUE(Eventually([this] { return server_->num_active_requests() == 0; }));
}

TEST_F(HttpServerTest, FullEngineIs503WithRetryAfter) {
  Start();
  engine_.full = true;
  const std::string answer = Ask(StreamText(5));
  EXPECT_EQ(StatusOf(answer), 503);
  EXPECT_NE(answer.find("Retry-After: 1\r\n"), std::string::npos);
  EXPECT_EQ(BodyOf(answer)["error"]["type"], "overloaded_error");
}

TEST_F(HttpServerTest, ConnectionsBeyondTheLimitAreToldSo) {
  context_.options.max_connections = 3;
  engine_.silent = true;
  Start();
  std::vector<std::unique_ptr<RawClient>> held;
  // A connection that was just closed may still count: such a client is refused and tries again.
  ASSERT_TRUE(Eventually([&] {
    auto client = std::make_unique<RawClient>(server_->port());
    if (!client->Send(StreamText(5))) return false;
    if (!Eventually([&] { return engine_.num_live() == held.size() + 1; }, 200)) return false;
    held.push_back(std::move(client));
    return held.size() == 3;
  }));
  RawClient over(server_->port());
  ASSERT_TRUE(over.Send(GetText("/v1/models")));
  const std::string refused = over.ReadAnswer();
  EXPECT_EQ(StatusOf(refused), 503);
  EXPECT_NE(refused.find("Retry-After: 1\r\n"), std::string::npos);
  EXPECT_NE(refused.find("Connection: close\r\n"), std::string::npos);
  EXPECT_EQ(StatusOf(Ask(GetText("/livez"))), 200);
  held.clear();
  EXPECT_TRUE(Eventually([this] { return StatusOf(Ask(GetText("/v1/models"))) == 200; }));
}

TEST_F(HttpServerTest, DrainFinishesWhatRunsAndRefusesWhatIsNew) {
  engine_.step = std::chrono::microseconds(10000);
  Start();
  RawClient running(server_->port());
  ASSERT_TRUE(running.Send(StreamText(13)));
  ASSERT_NE(running.ReadUntil("data: "), "");
  server_->BeginDrain();
  EXPECT_EQ(server_->num_active_requests(), 1u);
  EXPECT_EQ(StatusOf(Ask(GetText("/readyz"))), 503);
  EXPECT_EQ(StatusOf(Ask(PostText("/v1/completions", R"({"prompt":"x"})"))), 503);
  EXPECT_EQ(StatusOf(Ask(GetText("/livez"))), 200);
  EXPECT_NE(running.ReadUntil("data: [DONE]\n\n").find("[DONE]"), std::string::npos);
  EXPECT_TRUE(Eventually([this] { return server_->num_active_requests() == 0; }));
}

TEST_F(HttpServerTest, StopEndsIdleAndRunningConnectionsSoon) {
  engine_.silent = true;
  Start();
  RawClient idle(server_->port());
  ASSERT_TRUE(idle.Send(GetText("/health")));
  ASSERT_EQ(StatusOf(idle.ReadAnswer()), 200);
  RawClient running(server_->port());
  ASSERT_TRUE(running.Send(StreamText(5)));
  ASSERT_TRUE(Eventually([this] { return engine_.num_live() == 1; }));
  const auto begin = std::chrono::steady_clock::now();
  StopServer();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(3));
  EXPECT_EQ(engine_.num_cancelled() + static_cast<int>(engine_.num_live()), 1);
  EXPECT_FALSE(RawClient(server_->port()).Send(GetText("/health")) &&
               !RawClient(server_->port()).ReadAnswer(200).empty());
}

TEST_F(HttpServerTest, StopBeforeServeIsHarmless) {
  auto bound = HttpServer::Bind(context_.options);
  ASSERT_TRUE(bound);
  (*bound)->BeginDrain();
  (*bound)->Stop();
  EXPECT_TRUE((*bound)->Serve(context_, tokenizer_, engine_, metrics_));
}

class TlsClient {
 public:
  explicit TlsClient(uint16_t port) : socket_(port), context_(SSL_CTX_new(TLS_client_method())) {
    ssl_ = SSL_new(context_);
    SSL_set_fd(ssl_, socket_.fd());
    connected_ = SSL_connect(ssl_) == 1;
  }
  ~TlsClient() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
  }
  bool connected() const { return connected_; }
  void Send(const std::string& text) {
    EXPECT_EQ(SSL_write(ssl_, text.data(), static_cast<int>(text.size())),
              static_cast<int>(text.size()));
  }
  std::string Ask(const std::string& text, const std::string& end) {
    Send(text);
    std::string answer;
    char buffer[4096];
    while (answer.find(end) == std::string::npos) {
      const int num_read = SSL_read(ssl_, buffer, sizeof buffer);
      if (num_read <= 0) break;
      answer.append(buffer, static_cast<size_t>(num_read));
    }
    return answer;
  }

 private:
  RawClient socket_;
  SSL_CTX* context_;
  SSL* ssl_ = nullptr;
  bool connected_ = false;
};

class HttpsServerTest : public HttpServerTest {
 protected:
  HttpsServerTest() {
    context_.options.ssl_certfile = certificate_.certfile();
    context_.options.ssl_keyfile = certificate_.keyfile();
  }
  void StartTls() {
    auto bound = HttpServer::Bind(context_.options);
    ASSERT_TRUE(bound) << bound.error().message();
    server_ = *std::move(bound);
    thread_ =
        std::thread([this] { (void)server_->Serve(context_, tokenizer_, engine_, metrics_); });
  }
  TestCertificate certificate_;
};

TEST_F(HttpsServerTest, ServesTheSameRoutes) {
  StartTls();
  TlsClient client(server_->port());
  ASSERT_TRUE(client.connected());
  EXPECT_EQ(StatusOf(client.Ask(GetText("/health"), "ok\"}")), 200);
  EXPECT_NE(client.Ask(StreamText(5), "\r\n0\r\n\r\n").find("[DONE]"), std::string::npos);
  EXPECT_EQ(StatusOf(client.Ask("POST /v1/completions HTTP/1.1\r\nHost: h\r\n"
                                "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
                                "}}")),
            400);
}

TEST_F(HttpsServerTest, LongBodiesPassWhole) {
  StartTls();
  TlsClient client(server_->port());
  ASSERT_TRUE(client.connected());
  const std::string body = R"({"prompt":")" + std::string(1 << 20, 'a') + "\"}";
  const std::string answer = client.Ask(PostText("/tokenize", body), "\"token_strs\":null}");
  EXPECT_NE(answer.find("\"count\":1048577"), std::string::npos) << answer.substr(0, 300);
}

TEST_F(HttpsServerTest, ClientThatLeavesCancels) {
  engine_.silent = true;
  StartTls();
  {
    TlsClient client(server_->port());
    ASSERT_TRUE(client.connected());
    client.Send(StreamText(5));
    EXPECT_TRUE(Eventually([this] { return engine_.num_live() == 1; }));
  }
  EXPECT_TRUE(Eventually([this] { return engine_.num_cancelled() == 1; }));
  EXPECT_TRUE(Eventually([this] { return server_->num_active_requests() == 0; }));
}

TEST_F(HttpsServerTest, PlainTextOnTheTlsPortIsClosed) {
  StartTls();
  RawClient client(server_->port());
  ASSERT_TRUE(client.Send(GetText("/health")));
  client.ReadAll();
  EXPECT_TRUE(client.closed_by_server());
  EXPECT_TRUE(TlsClient(server_->port()).connected());
}

}  // namespace
}  // namespace kvs
