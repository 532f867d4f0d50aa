#include "http/http1.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "http_fixture.h"

namespace kvs {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Eventually;
using testing::GetText;
using testing::PostText;
using testing::RawClient;
using testing::StatusOf;

// A body of pieces that are there from the start; may break instead of ending.
class Pieces final : public StreamedBody {
 public:
  explicit Pieces(std::vector<std::string> pieces, bool breaks = false)
      : pieces_(std::move(pieces)), breaks_(breaks) {
    signal_.Notify();
  }
  bool Advance(std::string& out) override {
    if (num_sent_ == pieces_.size()) {
      if (breaks_) throw std::bad_alloc();
      return true;
    }
    out += pieces_[num_sent_++];
    signal_.Notify();
    return num_sent_ == pieces_.size() && !breaks_;
  }
  void Abandon() override {}
  ChannelSignal& signal() override { return signal_; }

 private:
  const std::vector<std::string> pieces_;
  const bool breaks_;
  size_t num_sent_ = 0;
  ChannelSignal signal_;
};

// Answers with what it was asked; refuses "/refused" from the head.
class EchoService final : public HttpService {
 public:
  std::optional<HttpResponse> CheckHead(HttpRequest& request) override {
    if (request.path != "/refused") return std::nullopt;
    return Refuse(request, 401, "no");
  }
  HttpResponse Handle(const HttpRequest& request) override {
    HttpResponse response;
    response.headers.emplace_back("X-Seen", std::to_string(request.body.size()));
    if (request.path == "/stream") {
      response.stream = std::make_shared<Pieces>(std::vector<std::string>{"one", "two"});
    } else if (request.path == "/throw") {
      throw std::bad_alloc();
    } else if (request.path == "/throw-later") {
      response.stream = std::make_shared<Pieces>(std::vector<std::string>{"one"}, /*breaks=*/true);
    } else if (request.path == "/wait") {
      Eventually([&] { return request.client_gone(); });
      saw_client_gone = request.client_gone();
    }
    response.body = request.method + " " + request.path + " " + request.body.substr(0, 64);
    return response;
  }
  HttpResponse Refuse(const HttpRequest&, int status, const std::string& message) override {
    HttpResponse response;
    response.status = status;
    response.body = message;
    return response;
  }
  void Answered(const HttpRequest&, const HttpResponse& response, bool complete) override {
    const std::lock_guard lock(mutex_);
    answered_.push_back(complete ? response.status : -response.status);
  }
  std::vector<int> answered() {
    const std::lock_guard lock(mutex_);
    return answered_;
  }

  std::atomic<bool> saw_client_gone{false};

 private:
  std::mutex mutex_;
  std::vector<int> answered_;  // guarded by mutex_
};

class Http1Test : public ::testing::Test {
 protected:
  Http1Test() {
    limits_.max_body_bytes = 10000;
    limits_.head_timeout = seconds(1);
    limits_.body_timeout = seconds(1);
    limits_.keep_alive_timeout = seconds(1);
  }
  ~Http1Test() override {
    client_.reset();
    if (thread_.joinable()) thread_.join();
  }

  RawClient& client(bool over_limit = false) {
    if (client_ != nullptr) return *client_;
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    client_ = std::make_unique<RawClient>(RawClient::Adopt{ends[0]});
    thread_ = std::thread([this, fd = ends[1], over_limit] {
      StreamWriter writer(stop_.get());
      Http1 http(limits_, service_, writer);
      Connection connection(FileDescriptor(fd), {stop_.get(), nullptr, seconds(5)});
      http.Serve(connection, over_limit, stopping_);
    });
    return *client_;
  }
  std::string Ask(std::string_view text) {
    EXPECT_TRUE(client().Send(text));
    return client().ReadAnswer();
  }
  bool Closes() {
    const std::string rest = client().ReadAll();
    EXPECT_EQ(rest, "");
    return client().closed_by_server();
  }

  Http1Limits limits_;
  EchoService service_;
  FileDescriptor stop_{eventfd(0, EFD_NONBLOCK)};
  std::atomic<bool> stopping_{false};
  std::unique_ptr<RawClient> client_;
  std::thread thread_;
};

bool EndsWith(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

TEST_F(Http1Test, KeepsTheConnectionForManyRequests) {
  for (int i = 0; i < 1000; ++i) {
    const std::string answer = Ask(PostText("/x", "body" + std::to_string(i)));
    ASSERT_EQ(StatusOf(answer), 200);
    ASSERT_TRUE(EndsWith(answer, "POST /x body" + std::to_string(i))) << answer;
  }
}

TEST_F(Http1Test, PipelinedRequestsAreAnsweredInOrder) {
  ASSERT_TRUE(client().Send(PostText("/a", "1") + GetText("/b") + PostText("/c", "22")));
  EXPECT_TRUE(EndsWith(client().ReadAnswer(), "POST /a 1"));
  EXPECT_TRUE(EndsWith(client().ReadAnswer(), "GET /b "));
  EXPECT_TRUE(EndsWith(client().ReadAnswer(), "POST /c 22"));
}

TEST_F(Http1Test, RequestMayComeByteByByte) {
  for (const char c : PostText("/slow", "abc")) ASSERT_TRUE(client().Send({&c, 1}));
  EXPECT_TRUE(EndsWith(client().ReadAnswer(), "POST /slow abc"));
}

TEST_F(Http1Test, ReadsChunkedBodies) {
  const std::string answer =
      Ask("POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
          "3\r\nabc\r\nA;ext=1\r\n0123456789\r\n0\r\n\r\n");
  EXPECT_TRUE(EndsWith(answer, "POST /x abc0123456789")) << answer;
}

TEST_F(Http1Test, AnyContentTypeIsRead) {
  const std::string body(9000, 'a');
  for (const char* type :
       {"application/x-www-form-urlencoded", "multipart/form-data; boundary=b"}) {
    const std::string answer =
        Ask(PostText("/x", body, std::string("Content-Type: ") + type + "\r\n"));
    EXPECT_NE(answer.find("X-Seen: 9000"), std::string::npos) << answer;
  }
}

TEST_F(Http1Test, SaysOnceWhetherTheConnectionStays) {
  const std::string kept = Ask(PostText("/x", "y"));
  EXPECT_NE(kept.find("Keep-Alive: timeout=1\r\n"), std::string::npos) << kept;
  EXPECT_EQ(kept.find("Connection:"), std::string::npos);
  const std::string closed = Ask(PostText("/x", "y", "Connection: close\r\n"));
  EXPECT_NE(closed.find("Connection: close\r\n"), std::string::npos) << closed;
  EXPECT_EQ(closed.find("Connection:"), closed.rfind("Connection:"));
  EXPECT_EQ(closed.find("Keep-Alive:"), std::string::npos);
  EXPECT_TRUE(Closes());
}

TEST_F(Http1Test, HeadHasNoBody) {
  ASSERT_TRUE(client().Send("HEAD /x HTTP/1.1\r\nHost: h\r\n\r\n" + GetText("/y")));
  EXPECT_NE(client().ReadUntil("\r\n\r\n").find("Content-Length: 8"), std::string::npos);
  EXPECT_TRUE(EndsWith(client().ReadAnswer(), "GET /y "));
}

TEST_F(Http1Test, StreamsInChunks) {
  const std::string answer = Ask(GetText("/stream"));
  EXPECT_NE(answer.find("3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"), std::string::npos) << answer;
  EXPECT_EQ(StatusOf(Ask(GetText("/again"))), 200);
}

TEST_F(Http1Test, HandlerThatThrowsIs500AndSaysNothingOfIt) {
  const std::string answer = Ask(PostText("/throw", "x"));
  EXPECT_EQ(StatusOf(answer), 500);
  EXPECT_EQ(answer.find("bad_alloc"), std::string::npos) << answer;
  EXPECT_TRUE(Closes());
}

TEST_F(Http1Test, StreamThatThrowsIsCut) {
  ASSERT_TRUE(client().Send(GetText("/throw-later")));
  EXPECT_TRUE(EndsWith(client().ReadAll(), "3\r\none\r\n"));
  EXPECT_TRUE(client().closed_by_server());
  EXPECT_EQ(service_.answered(), std::vector<int>{-200});
}

TEST_F(Http1Test, Http10StreamEndsWithTheConnection) {
  ASSERT_TRUE(client().Send("GET /stream HTTP/1.0\r\n\r\n"));
  EXPECT_TRUE(EndsWith(client().ReadAll(), "\r\n\r\nonetwo"));
  EXPECT_TRUE(client().closed_by_server());
}

TEST_F(Http1Test, ExpectContinueIsAnsweredBeforeTheBody) {
  ASSERT_TRUE(client().Send(
      "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"));
  EXPECT_EQ(client().ReadUntil("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  EXPECT_TRUE(EndsWith(Ask("abc"), "POST /x abc"));
}

TEST_F(Http1Test, RefusalFromTheHeadNeedsNoBody) {
  const std::string answer =
      Ask("POST /refused HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(StatusOf(answer), 401);
  EXPECT_NE(answer.find("Connection: close"), std::string::npos);
  EXPECT_TRUE(Closes());
}

TEST_F(Http1Test, LongBodyIs413FromItsLength) {
  EXPECT_EQ(StatusOf(Ask("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 10001\r\n\r\n")), 413);
  EXPECT_TRUE(Closes());
}

TEST_F(Http1Test, LongChunkedBodyIs413WhileItArrives) {
  ASSERT_TRUE(client().Send("POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"));
  const std::string chunk = "1000\r\n" + std::string(4096, 'a') + "\r\n";
  for (int i = 0; i < 4; ++i) client().Send(chunk);
  EXPECT_EQ(StatusOf(client().ReadAnswer()), 413);
}

TEST_F(Http1Test, TinyChunksAndLongChunkHeadersAreBounded) {
  ASSERT_TRUE(client().Send("POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;"));
  const std::string padding(65536, 'p');
  for (int i = 0; i < 4; ++i) client().Send(padding);
  EXPECT_EQ(StatusOf(client().ReadAnswer()), 400);
}

TEST_F(Http1Test, MalformedChunksAre400AndEndTheConnection) {
  for (const char* chunks : {"zz\r\nabc\r\n0\r\n\r\n", "3\r\nabcd\r\n0\r\n\r\n", "\r\n"}) {
    client_.reset();
    if (thread_.joinable()) thread_.join();
    const std::string answer = Ask(
        std::string("POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n") + chunks);
    EXPECT_NE(answer.find("Connection: close"), std::string::npos) << chunks;
    client().ReadAll();
    EXPECT_TRUE(client().closed_by_server());
  }
}

TEST_F(Http1Test, BodyThatEndsEarlyIs400) {
  ASSERT_TRUE(client().Send("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc"));
  shutdown(client().fd(), SHUT_WR);
  EXPECT_EQ(StatusOf(client().ReadAnswer()), 400);
}

TEST_F(Http1Test, SlowHeadAndSlowBodyAre408) {
  EXPECT_EQ(StatusOf(Ask("GET /x HTT")), 408);
  EXPECT_TRUE(Closes());
  client_.reset();
  thread_.join();
  EXPECT_EQ(StatusOf(Ask("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc")), 408);
  EXPECT_TRUE(Closes());
}

TEST_F(Http1Test, IdleConnectionIsClosedWithoutAWord) {
  EXPECT_EQ(StatusOf(Ask(GetText("/x"))), 200);
  EXPECT_TRUE(Closes());
}

TEST_F(Http1Test, BodyOfAGetIsNotTakenForARequest) {
  EXPECT_EQ(StatusOf(Ask("GET /x HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n"
                         "GET /smuggled HTTP/1")),
            200);
  EXPECT_TRUE(Closes());
  EXPECT_EQ(service_.answered().size(), 1u);
}

TEST_F(Http1Test, BadHeadsGetTheirStatusAndEndTheConnection) {
  const std::pair<std::string, int> cases[] = {
      {"GET / HTTP/1.1\nHost: h\n\n", 400},
      {"GET / HTTP/1.1\r\nHost: h\r\nA: " + std::string(20000, 'x') + "\r\n\r\n", 431},
      {"GET /" + std::string(20000, 'x') + " HTTP/1.1\r\n\r\n", 414},
      {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400},
      {"POST / HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\n\r\n", 415},
      {"\x16\x03\x01\x02", 400},
      {"GET / HTTP/3.0\r\nHost: h\r\n\r\n", 505}};
  for (const auto& [text, status] : cases) {
    client_.reset();
    if (thread_.joinable()) thread_.join();
    client().Send(text);
    const std::string answer = client().ReadAnswer();
    EXPECT_EQ(StatusOf(answer), status) << text.substr(0, 80);
    EXPECT_NE(answer.find("Connection: close"), std::string::npos);
    client().ReadAll();
    EXPECT_TRUE(client().closed_by_server());
  }
}

TEST_F(Http1Test, AnswersAreNotCompressedAndNotCutToARange) {
  const std::string answer =
      Ask(GetText("/x", "Accept-Encoding: gzip, br\r\nRange: bytes=0-1\r\n"));
  EXPECT_EQ(StatusOf(answer), 200);
  EXPECT_TRUE(EndsWith(answer, "GET /x ")) << answer;
}

TEST_F(Http1Test, WaitingHandlerSeesThatItsClientLeft) {
  ASSERT_TRUE(client().Send(PostText("/wait", "x")));
  std::this_thread::sleep_for(milliseconds(30));
  EXPECT_FALSE(service_.saw_client_gone);
  client().Close();
  EXPECT_TRUE(Eventually([&] { return service_.saw_client_gone.load(); }));
}

TEST_F(Http1Test, StopTellsAWaitingHandlerAndEndsTheConnection) {
  ASSERT_TRUE(client().Send(PostText("/wait", "x")));
  std::this_thread::sleep_for(milliseconds(30));
  stopping_ = true;
  EXPECT_EQ(StatusOf(client().ReadAnswer()), 200);
  EXPECT_TRUE(Closes());
}

TEST_F(Http1Test, ConnectionOverTheLimitIsNotKept) {
  client(/*over_limit=*/true);
  const std::string answer = Ask(GetText("/x"));
  EXPECT_NE(answer.find("Connection: close"), std::string::npos);
  EXPECT_TRUE(Closes());
}

}  // namespace
}  // namespace kvs
