// Sends a workload and measures.
#pragma once

#include <functional>
#include <vector>

#include "client/bench_workload.h"
#include "client/completions_api.h"

namespace kvs {

using BenchOutcome = tl::expected<Completion, CompletionFailure>;

struct BenchRun {
  double wall_s = 0.0;                 // first request sent to last response complete
  std::vector<BenchOutcome> outcomes;  // one for each ask, in order
};

struct BenchTarget {
  Url url;
  std::string api_key;
  uint32_t concurrency = 1;  // closed loop: requests in flight
};

// Closed loop: `concurrency` threads, each sends its next request when its last has ended. Open
// loop (start times given): each request has a thread of its own, however many are in flight.
// `on_progress` is called from this thread a few times a second.
BenchRun RunWorkload(const BenchTarget& target, const BenchWorkload& workload,
                     const std::function<void(size_t done, size_t failed)>& on_progress);

}  // namespace kvs
