#include "schedule/prefix_in_flight.h"

#include <gtest/gtest.h>

namespace kvs {
namespace {

Sequence Make(uint32_t num_tokens) {
  Sequence sequence;
  for (uint32_t i = 0; i < num_tokens; ++i) sequence.token_ids.push_back(TokenId{i});
  sequence.scheduler_state.chain = HashChain(RootHash(1, 0, ""), 4);
  sequence.scheduler_state.chain.Extend(sequence.token_ids);
  return sequence;
}

TEST(PrefixInFlight, MarksFullBlocksFromTheFirstToCompute) {
  PrefixInFlight in_flight(8);
  Sequence owner = Make(14);
  const HashChain& chain = owner.scheduler_state.chain;
  in_flight.Mark(owner, 1);
  EXPECT_FALSE(in_flight.Contains(chain[0]));
  EXPECT_TRUE(in_flight.Contains(chain[1]));
  EXPECT_TRUE(in_flight.Contains(chain[2]));
  EXPECT_EQ(in_flight.size(), 2u);
  in_flight.Unmark(owner, 1, 2);
  EXPECT_FALSE(in_flight.Contains(chain[1]));
  EXPECT_TRUE(in_flight.Contains(chain[2]));
  in_flight.Unmark(owner, 2, 100);
  EXPECT_EQ(in_flight.size(), 0u);
}

TEST(PrefixInFlight, TheFirstOwnerKeepsItsMarks) {
  PrefixInFlight in_flight(8);
  Sequence first = Make(8);
  Sequence second = Make(12);
  in_flight.Mark(first, 0);
  in_flight.Mark(second, 0);
  const HashChain& chain = second.scheduler_state.chain;
  EXPECT_TRUE(in_flight.IsOwner(first, chain[1]));
  EXPECT_TRUE(in_flight.IsOwner(second, chain[2]));
  in_flight.Unmark(second, 0, 3);
  EXPECT_TRUE(in_flight.Contains(chain[1]));
  EXPECT_FALSE(in_flight.Contains(chain[2]));
}

TEST(PrefixInFlight, WhatWasNeverMarkedIsNotUnmarked) {
  PrefixInFlight in_flight(8);
  Sequence first = Make(8);
  Sequence grown = Make(4);
  in_flight.Mark(grown, 0);
  for (uint32_t i = 4; i < 8; ++i) grown.token_ids.push_back(TokenId{i});
  grown.scheduler_state.chain.Extend(grown.token_ids);
  in_flight.Mark(first, 0);
  in_flight.Unmark(grown, 0, 2);
  EXPECT_FALSE(in_flight.Contains(first.scheduler_state.chain[0]));
  EXPECT_TRUE(in_flight.Contains(first.scheduler_state.chain[1]));
}

}  // namespace
}  // namespace kvs
