#include "stream/token_channel.h"

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace kvs {
namespace {

using std::chrono::milliseconds;

TokenEvent Token(uint32_t id) {
  TokenEvent event;
  event.has_token = true;
  event.token = TokenId{id};
  return event;
}

TokenEvent Last(FinishReason reason = FinishReason::kStop) {
  TokenEvent event;
  event.finish = reason;
  return event;
}

TEST(TokenChannel, HandsEventsOverInOrder) {
  TokenChannel channel(8, std::make_shared<ChannelSignal>());
  EXPECT_TRUE(channel.Push(Token(1)));
  EXPECT_TRUE(channel.Push(Token(2)));
  std::vector<TokenEvent> events;
  EXPECT_FALSE(channel.TakeAll(events));
  EXPECT_TRUE(channel.Push(Last()));
  EXPECT_TRUE(channel.TakeAll(events));  // appended to what is there
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].token, TokenId{1});
  EXPECT_EQ(events[1].token, TokenId{2});
  EXPECT_EQ(events[2].finish, FinishReason::kStop);
  events.clear();
  EXPECT_TRUE(channel.TakeAll(events));
  EXPECT_TRUE(events.empty());
}

TEST(TokenChannel, RefusesWhenTheReaderIsBehindButTakesTheLast) {
  TokenChannel channel(2, std::make_shared<ChannelSignal>());
  EXPECT_TRUE(channel.Push(Token(1)));
  EXPECT_TRUE(channel.Push(Token(2)));
  EXPECT_FALSE(channel.Push(Token(3)));
  EXPECT_TRUE(channel.Push(Last(FinishReason::kCancelled)));
  std::vector<TokenEvent> events;
  EXPECT_TRUE(channel.TakeAll(events));
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[2].finish, FinishReason::kCancelled);
}

TEST(TokenChannel, HasRoomAgainOnceRead) {
  TokenChannel channel(1, std::make_shared<ChannelSignal>());
  std::vector<TokenEvent> events;
  for (uint32_t i = 0; i < 5; ++i) {
    EXPECT_TRUE(channel.Push(Token(i)));
    EXPECT_FALSE(channel.Push(Token(i)));
    EXPECT_FALSE(channel.TakeAll(events));
  }
  EXPECT_EQ(events.size(), 5u);
}

TEST(TokenChannelDeathTest, NothingFollowsTheLastEvent) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  TokenChannel channel(2, std::make_shared<ChannelSignal>());
  channel.Push(Last());
  EXPECT_DEATH(channel.Push(Token(1)), "finished_");
}

TEST(TokenChannel, CancelIsSeen) {
  TokenChannel channel(1, std::make_shared<ChannelSignal>());
  EXPECT_FALSE(channel.cancelled());
  channel.Cancel();
  channel.Cancel();
  EXPECT_TRUE(channel.cancelled());
}

// One engine thread feeds several channels of one reader, which cancels one of them.
TEST(TokenChannel, TwoThreads) {
  constexpr uint32_t kNumEvents = 20'000;
  const auto signal = std::make_shared<ChannelSignal>();
  std::vector<std::unique_ptr<TokenChannel>> channels;
  for (int i = 0; i < 3; ++i) channels.push_back(std::make_unique<TokenChannel>(64, signal));

  std::thread engine([&] {
    std::vector<bool> done(channels.size(), false);
    for (uint32_t event = 0; event < kNumEvents; ++event) {
      for (size_t i = 0; i < channels.size(); ++i) {
        if (done[i]) continue;
        while (!channels[i]->cancelled() && !channels[i]->Push(Token(event))) {
          signal->Notify();
          std::this_thread::yield();
        }
        done[i] = channels[i]->cancelled();
        if (done[i]) channels[i]->Push(Last(FinishReason::kCancelled));
      }
      signal->Notify();
    }
    for (size_t i = 0; i < channels.size(); ++i) {
      if (!done[i]) channels[i]->Push(Last());
    }
    signal->Notify();
  });

  std::vector<bool> finished(channels.size(), false);
  std::vector<uint32_t> next(channels.size(), 0);
  std::vector<TokenEvent> events;
  size_t num_finished = 0;
  while (num_finished < channels.size()) {
    ASSERT_TRUE(signal->WaitFor(milliseconds(10'000)));
    for (size_t i = 0; i < channels.size(); ++i) {
      if (finished[i]) continue;
      events.clear();
      finished[i] = channels[i]->TakeAll(events);
      num_finished += finished[i];
      for (const TokenEvent& event : events) {
        if (!event.has_token) continue;
        EXPECT_EQ(event.token, TokenId{next[i]++});
      }
      if (i == 1 && next[i] > 100) channels[i]->Cancel();
    }
  }
  engine.join();
  EXPECT_EQ(next[0], kNumEvents);
  EXPECT_LT(next[1], kNumEvents);
  EXPECT_EQ(next[2], kNumEvents);
}

}  // namespace
}  // namespace kvs
