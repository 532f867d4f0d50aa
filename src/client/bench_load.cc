#include "client/bench_load.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

namespace kvs {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kProgressInterval(200);

// Counts finished requests and wakes the thread that waits for the last.
class Tally {
 public:
  void Add(bool failed) {
    const std::lock_guard lock(mutex_);
    ++done_;
    if (failed) ++failed_;
    changed_.notify_one();
  }

  void WaitFor(size_t total, const std::function<void(size_t, size_t)>& on_progress) {
    std::unique_lock lock(mutex_);
    while (done_ < total) {
      changed_.wait_for(lock, kProgressInterval, [&] { return done_ == total; });
      const size_t done = done_, failed = failed_;
      lock.unlock();
      on_progress(done, failed);
      lock.lock();
    }
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t done_ = 0;
  size_t failed_ = 0;
};

class Load {
 public:
  Load(const BenchTarget& target, const BenchWorkload& workload)
      : target_(target), workload_(workload) {
    const BenchOutcome unset =
        tl::unexpected(CompletionFailure{"unsent", Status(Code::kInternal, "never sent")});
    run_.outcomes.assign(workload.asks.size(), unset);
  }

  BenchRun Run(const std::function<void(size_t, size_t)>& on_progress) {
    start_ = Clock::now();
    std::thread opener;
    if (workload_.start_s.empty()) {
      StartClosedLoop();
    } else {
      opener = std::thread([this] { RunOpenLoop(); });
    }
    tally_.WaitFor(workload_.asks.size(), on_progress);
    run_.wall_s = std::chrono::duration<double>(Clock::now() - start_).count();
    if (opener.joinable()) opener.join();
    for (std::thread& thread : threads_) thread.join();
    return std::move(run_);
  }

 private:
  void StartClosedLoop() {
    const size_t num_threads = std::min<size_t>(target_.concurrency, workload_.asks.size());
    for (size_t i = 0; i < num_threads; ++i) {
      threads_.emplace_back([this] {
        CompletionsApi api(target_.url, target_.api_key);
        for (size_t next = next_++; next < workload_.asks.size(); next = next_++) {
          SendOne(next, &api);
        }
      });
    }
  }

  void RunOpenLoop() {
    for (size_t i = 0; i < workload_.asks.size(); ++i) {
      const std::chrono::duration<double> offset(workload_.start_s[i]);
      std::this_thread::sleep_until(start_ + std::chrono::duration_cast<Clock::duration>(offset));
      try {
        threads_.emplace_back([this, i] {
          CompletionsApi api(target_.url, target_.api_key);
          SendOne(i, &api);
        });
      } catch (const std::system_error& e) {
        run_.outcomes[i] = tl::unexpected(CompletionFailure{
            "client", Status(Code::kOsError, std::string("thread: ") + e.what())});
        tally_.Add(true);
      }
    }
  }

  // Each index is written by one thread; Tally's lock orders the writes before Run's reads.
  void SendOne(size_t index, CompletionsApi* api) {
    run_.outcomes[index] = api->Complete(workload_.asks[index]);
    tally_.Add(!run_.outcomes[index].has_value());
  }

  const BenchTarget& target_;
  const BenchWorkload& workload_;
  BenchRun run_;
  Tally tally_;
  Clock::time_point start_;
  std::atomic<size_t> next_{0};
  std::vector<std::thread> threads_;  // open loop: grown by the opener until it is joined
};

}  // namespace

BenchRun RunWorkload(const BenchTarget& target, const BenchWorkload& workload,
                     const std::function<void(size_t done, size_t failed)>& on_progress) {
  return Load(target, workload).Run(on_progress);
}

}  // namespace kvs
