#include "http/connection.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>

namespace kvs {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

class ConnectionTest : public ::testing::Test {
 protected:
  ConnectionTest() : stop_(eventfd(0, EFD_NONBLOCK)) {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    client_ = ends[0];
    connection_ = std::make_unique<Connection>(
        FileDescriptor(ends[1]), Connection::Context{stop_.get(), nullptr, seconds(1)});
  }
  ~ConnectionTest() override { CloseClient(); }

  void CloseClient() {
    if (client_ >= 0) close(client_);
    client_ = -1;
  }
  void StopServer() {
    const uint64_t one = 1;
    EXPECT_EQ(write(stop_.get(), &one, sizeof one), 8);
  }
  static SteadyTime In(milliseconds time) { return steady_clock::now() + time; }

  FileDescriptor stop_;
  int client_ = -1;
  std::unique_ptr<Connection> connection_;
  char buffer_[64];
};

TEST_F(ConnectionTest, ReadsWhatIsThere) {
  ASSERT_EQ(write(client_, "abc", 3), 3);
  EXPECT_TRUE(connection_->WaitReadable(In(seconds(1))));
  EXPECT_EQ(connection_->Read(buffer_, sizeof buffer_, In(seconds(1))), 3u);
}

TEST_F(ConnectionTest, ReadEndsAtItsTime) {
  EXPECT_EQ(connection_->Read(buffer_, sizeof buffer_, In(milliseconds(20))), 0u);
  EXPECT_EQ(connection_->read_end(), Connection::ReadEnd::kTimeout);
  EXPECT_FALSE(connection_->PeerClosed());
}

TEST_F(ConnectionTest, SeesThatThePeerClosed) {
  CloseClient();
  EXPECT_TRUE(connection_->PeerClosed());
  EXPECT_EQ(connection_->Read(buffer_, sizeof buffer_, In(seconds(1))), 0u);
  EXPECT_EQ(connection_->read_end(), Connection::ReadEnd::kClosed);
  EXPECT_FALSE(connection_->Write("x"));
}

TEST_F(ConnectionTest, StopEndsAWait) {
  std::thread stopper([this] {
    std::this_thread::sleep_for(milliseconds(20));
    StopServer();
  });
  const auto begin = steady_clock::now();
  EXPECT_FALSE(connection_->WaitReadable(In(seconds(30))));
  EXPECT_EQ(connection_->read_end(), Connection::ReadEnd::kStopped);
  EXPECT_LT(steady_clock::now() - begin, seconds(5));
  stopper.join();
}

TEST_F(ConnectionTest, WriteGivesUpOnAReaderThatDoesNotRead) {
  const std::string much(8u << 20, 'x');
  const auto begin = steady_clock::now();
  EXPECT_FALSE(connection_->Write(much));
  const auto took = steady_clock::now() - begin;
  EXPECT_GE(took, milliseconds(900));
  EXPECT_LT(took, seconds(10));
}

TEST_F(ConnectionTest, StopShortensAWriteButDoesNotCutIt) {
  StopServer();
  EXPECT_TRUE(connection_->Write("goodbye"));
  EXPECT_EQ(read(client_, buffer_, sizeof buffer_), 7);
}

TEST_F(ConnectionTest, GentleCloseReadsWhatIsLeft) {
  const std::string unread(4096, 'x');
  ASSERT_EQ(write(client_, unread.data(), unread.size()), 4096);
  ASSERT_TRUE(connection_->Write("answer"));
  std::thread closer([this] {
    EXPECT_GT(recv(client_, buffer_, sizeof buffer_, 0), 0);
    CloseClient();
  });
  const auto begin = steady_clock::now();
  connection_->CloseGently();
  EXPECT_LT(steady_clock::now() - begin, milliseconds(900));
  closer.join();
}

}  // namespace
}  // namespace kvs
