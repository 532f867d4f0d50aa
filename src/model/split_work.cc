#include "model/split_work.h"

#include <algorithm>
#include <thread>
#include <vector>

#include "kvserve/check.h"

namespace kvs {
namespace {

// More do not help: memory is what is waited for.
constexpr size_t kThreadsMax = 32;

}  // namespace

void SplitWork(size_t count, size_t grain,
               const std::function<void(size_t begin, size_t end)>& piece) {
  KVS_CHECK_OP(grain, >, 0u);
  const size_t grains = (count + grain - 1) / grain;
  const size_t processors = std::max(std::thread::hardware_concurrency(), 1u);
  const size_t num_threads = std::clamp<size_t>(grains, 1, std::min(processors, kThreadsMax));
  const auto run = [&](size_t thread) {
    const size_t begin = grains * thread / num_threads * grain;
    const size_t end = std::min(grains * (thread + 1) / num_threads * grain, count);
    if (begin < end) piece(begin, end);
  };
  std::vector<std::thread> threads;
  for (size_t i = 1; i < num_threads; ++i) threads.emplace_back(run, i);
  run(0);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace kvs
