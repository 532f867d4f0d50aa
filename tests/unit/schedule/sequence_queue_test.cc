#include "schedule/sequence_queue.h"

#include <gtest/gtest.h>

#include <utility>

namespace kvs {
namespace {

std::unique_ptr<Sequence> QueuedSequence(uint64_t id, int arrival = 0, int32_t priority = 0) {
  auto sequence = std::make_unique<Sequence>();
  sequence->request.id = RequestId{id};
  sequence->request.arrival = SteadyTime(std::chrono::seconds(arrival));
  sequence->request.priority = priority;
  return sequence;
}

std::vector<uint64_t> Ids(const SequenceQueue& queue) {
  std::vector<uint64_t> ids;
  for (size_t i = 0; i < queue.size(); ++i) ids.push_back(queue[i].request.id.value);
  return ids;
}

TEST(SequenceQueue, FcfsStandsByArrivalAndIgnoresPriority) {
  SequenceQueue queue(SchedulingPolicy::kFcfs);
  queue.Insert(QueuedSequence(1, 20, -5));
  queue.Insert(QueuedSequence(4, 10));
  queue.Insert(QueuedSequence(2, 20));
  queue.Insert(QueuedSequence(3, 10, 7));
  EXPECT_EQ(Ids(queue), (std::vector<uint64_t>{3, 4, 1, 2}));
  queue.CheckIntegrity();
}

TEST(SequenceQueue, PriorityStandsByPriorityArrivalId) {
  SequenceQueue queue(SchedulingPolicy::kPriority);
  queue.Insert(QueuedSequence(1, 10, 1));
  queue.Insert(QueuedSequence(2, 20, 0));
  queue.Insert(QueuedSequence(3, 5, 1));
  queue.Insert(QueuedSequence(5, 20, 0));
  queue.Insert(QueuedSequence(4, 20, 0));
  queue.Insert(QueuedSequence(6, 99, -3));
  EXPECT_EQ(Ids(queue), (std::vector<uint64_t>{6, 2, 4, 5, 3, 1}));
  EXPECT_EQ(queue.back().request.id, RequestId{1});
  queue.CheckIntegrity();
}

TEST(SequenceQueue, EqualsKeepTheirOrder) {
  SequenceQueue queue(SchedulingPolicy::kFcfs);
  auto first = QueuedSequence(1);
  auto second = QueuedSequence(1);
  const Sequence* expected = first.get();
  queue.Insert(std::move(first));
  queue.Insert(std::move(second));
  EXPECT_EQ(&queue[0], expected);
}

TEST(SequenceQueue, TakesAMemberOut) {
  SequenceQueue queue(SchedulingPolicy::kFcfs);
  for (uint64_t id = 1; id <= 3; ++id) queue.Insert(QueuedSequence(id));
  const auto taken = queue.Take(queue[1]);
  EXPECT_EQ(taken->request.id, RequestId{2});
  EXPECT_EQ(Ids(queue), (std::vector<uint64_t>{1, 3}));
  EXPECT_EQ(queue.TakeAt(0)->request.id, RequestId{1});
  EXPECT_DEATH(queue.Take(*taken), "check failed");
}

}  // namespace
}  // namespace kvs
