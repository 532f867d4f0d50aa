#include "http/stream_writer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "http_fixture.h"

namespace kvs {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;
using testing::Eventually;
using testing::RawClient;
using Framing = StreamWriter::Framing;

// A body that another thread feeds.
class FedBody final : public StreamedBody {
 public:
  void Feed(std::string_view bytes, bool last = false) {
    {
      const std::lock_guard lock(mutex_);
      bytes_ += bytes;
      last_ = last;
    }
    signal_.Notify();
  }
  // Whether the writer has asked for all that was fed.
  bool Taken() {
    const std::lock_guard lock(mutex_);
    return bytes_.empty();
  }

  bool Advance(std::string& out) override {
    EXPECT_FALSE(abandoned);
    if (breaks) throw std::bad_alloc();
    const std::lock_guard lock(mutex_);
    ++num_advances;
    out += std::exchange(bytes_, {});
    return last_;
  }
  void Abandon() override { abandoned = true; }
  ChannelSignal& signal() override { return signal_; }

  std::atomic<bool> abandoned{false};
  std::atomic<bool> breaks{false};
  std::atomic<int> num_advances{0};

 private:
  std::mutex mutex_;
  std::string bytes_;  // guarded by mutex_
  bool last_ = false;  // guarded by mutex_
  ChannelSignal signal_;
};

// A client, its connection, and the thread that lends it to the writer.
class Peer {
 public:
  Peer(StreamWriter& writer, int stop_fd, Framing framing, seconds send_timeout) {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    client = std::make_unique<RawClient>(RawClient::Adopt{ends[0]});
    connection_ = std::make_unique<Connection>(FileDescriptor(ends[1]),
                                               Connection::Context{stop_fd, nullptr, send_timeout});
    written_ = std::async(std::launch::async, [this, &writer, framing] {
      return writer.Write(*connection_, body, framing);
    });
  }

  // What Write returned.
  bool Written() { return written_.get(); }
  bool Waits() { return written_.wait_for(milliseconds(50)) == std::future_status::timeout; }

  FedBody body;
  std::unique_ptr<RawClient> client;

 private:
  std::unique_ptr<Connection> connection_;
  std::future<bool> written_;
};

class StreamWriterTest : public ::testing::Test {
 protected:
  StreamWriterTest() : stop_(eventfd(0, EFD_NONBLOCK)), writer_(stop_.get()) {}

  std::unique_ptr<Peer> Connect(Framing framing = Framing::kUntilClose,
                                seconds send_timeout = seconds(5)) {
    return std::make_unique<Peer>(writer_, stop_.get(), framing, send_timeout);
  }
  void StopServer() { EXPECT_EQ(eventfd_write(stop_.get(), 1), 0); }

  FileDescriptor stop_;
  StreamWriter writer_;
};

TEST_F(StreamWriterTest, SendsPiecesAsTheyCome) {
  const auto peer = Connect(Framing::kChunked);
  peer->body.Feed("one");
  EXPECT_EQ(peer->client->ReadUntil("e\r\n"), "3\r\none\r\n");
  EXPECT_TRUE(peer->Waits());
  peer->body.Feed("and a longer one", /*last=*/true);
  EXPECT_TRUE(peer->Written());
  EXPECT_EQ(peer->client->ReadUntil("one\r\n"), "10\r\nand a longer one\r\n");
  EXPECT_FALSE(peer->body.abandoned);
}

TEST_F(StreamWriterTest, BodyThatEndsWithNothingSendsNothing) {
  const auto peer = Connect(Framing::kChunked);
  peer->body.Feed("", /*last=*/true);
  EXPECT_TRUE(peer->Written());
  EXPECT_EQ(peer->client->ReadAll(20), "");
}

TEST_F(StreamWriterTest, AsksOnlyTheBodiesThatWereNotified) {
  const auto quiet = Connect();
  const auto fed = Connect();
  ASSERT_TRUE(Eventually([&] { return quiet->body.num_advances == 1; })) << "once when it is new";
  for (int i = 0; i < 100; ++i) {
    fed->body.Feed("x");
    EXPECT_EQ(fed->client->ReadUntil("x"), "x");
  }
  EXPECT_EQ(quiet->body.num_advances, 1);
  for (const auto* peer : {&quiet, &fed}) {
    (*peer)->body.Feed("", /*last=*/true);
    EXPECT_TRUE((*peer)->Written());
  }
}

TEST_F(StreamWriterTest, ClientThatLeavesEndsItsBodyAlone) {
  const auto leaves = Connect();
  const auto stays = Connect();
  leaves->body.Feed("x");
  EXPECT_EQ(leaves->client->ReadUntil("x"), "x");
  const auto begin = steady_clock::now();
  leaves->client->Close();
  EXPECT_FALSE(leaves->Written());
  EXPECT_TRUE(leaves->body.abandoned);
  EXPECT_LT(steady_clock::now() - begin, seconds(1));
  leaves->body.Feed("no one takes this");
  stays->body.Feed("y", /*last=*/true);
  EXPECT_TRUE(stays->Written());
  EXPECT_EQ(stays->client->ReadUntil("y"), "y");
}

TEST_F(StreamWriterTest, SlowClientGetsAllAndHoldsNobodyUp) {
  const auto slow = Connect(Framing::kChunked, seconds(120));  // far more than this test takes
  const std::string much(8u << 20, 'm');
  slow->body.Feed(much);
  ASSERT_TRUE(Eventually([&] { return slow->body.Taken(); }));
  const int num_advances = slow->body.num_advances;
  const auto other = Connect();
  for (int i = 0; i < 10; ++i) {
    slow->body.Feed("more");
    other->body.Feed("y");
    EXPECT_EQ(other->client->ReadUntil("y"), "y");
  }
  EXPECT_TRUE(slow->Waits());
  EXPECT_EQ(slow->body.num_advances, num_advances) << "asked while its client does not read";
  slow->body.Feed("end", /*last=*/true);
  std::string rest;
  for (int i = 0; i < 10; ++i) rest += "more";
  const std::string expected = "800000\r\n" + much + "\r\n2b\r\n" + rest + "end\r\n";
  EXPECT_EQ(slow->client->ReadUntil("end\r\n", 20000), expected);
  EXPECT_TRUE(slow->Written());
  other->body.Feed("", /*last=*/true);
  EXPECT_TRUE(other->Written());
}

TEST_F(StreamWriterTest, ClientThatTakesNothingForTheSendTimeoutIsCut) {
  const auto peer = Connect(Framing::kUntilClose, seconds(1));
  peer->body.Feed(std::string(8u << 20, 'm'));
  const auto begin = steady_clock::now();
  EXPECT_FALSE(peer->Written());
  EXPECT_TRUE(peer->body.abandoned);
  EXPECT_GE(steady_clock::now() - begin, milliseconds(900));
}

TEST_F(StreamWriterTest, EachByteTakenExtendsTheSendTimeout) {
  const auto peer = Connect(Framing::kUntilClose, seconds(1));
  peer->body.Feed(std::string(2u << 20, 'm') + "end", /*last=*/true);
  std::string received;
  std::string buffer(256u << 10, ' ');
  while (received.size() < (2u << 20)) {
    std::this_thread::sleep_for(milliseconds(300));
    const ssize_t taken = recv(peer->client->fd(), buffer.data(), buffer.size(), 0);
    ASSERT_GT(taken, 0);
    received.append(buffer, 0, static_cast<size_t>(taken));
  }
  EXPECT_TRUE(peer->Written());
}

TEST_F(StreamWriterTest, BodyThatBreaksIsCut) {
  const auto peer = Connect();
  peer->body.breaks = true;
  peer->body.Feed("x");
  EXPECT_FALSE(peer->Written());
}

TEST_F(StreamWriterTest, StopCutsWhatIsNotAtItsEnd) {
  const auto runs = Connect();
  runs->body.Feed("x");
  EXPECT_EQ(runs->client->ReadUntil("x"), "x");
  const auto ends = Connect();
  const std::string more_than_a_socket_holds = std::string(512u << 10, 'm') + "end";
  ends->body.Feed(more_than_a_socket_holds, /*last=*/true);
  ASSERT_TRUE(Eventually([&] { return ends->body.Taken(); }));
  StopServer();
  EXPECT_FALSE(runs->Written());
  EXPECT_TRUE(runs->body.abandoned);
  EXPECT_EQ(ends->client->ReadUntil("end"), more_than_a_socket_holds)
      << "a moment is left to take the end";
  EXPECT_TRUE(ends->Written());

  const auto late = Connect();
  EXPECT_FALSE(late->Written());
}

TEST_F(StreamWriterTest, ManyAtOnce) {
  std::vector<std::unique_ptr<Peer>> peers;
  for (int i = 0; i < 64; ++i) peers.push_back(Connect());
  for (int round = 0; round < 50; ++round) {
    for (const auto& peer : peers) peer->body.Feed("abc", /*last=*/round == 49);
  }
  for (size_t i = 0; i < peers.size(); ++i) {
    if (i % 8 == 7) {
      peers[i]->client->Close();
      peers[i]->Written();
      continue;
    }
    EXPECT_TRUE(peers[i]->Written());
    EXPECT_EQ(peers[i]->client->ReadAll(10).size(), 150u);
  }
}

}  // namespace
}  // namespace kvs
