#include "bench/machine_peaks.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "cpu/cpu_features.h"
#include "cpu/memory.h"

namespace kvs::bench {
namespace {

std::atomic<uint64_t> g_sink;

uint64_t XorAll(const uint64_t* data, size_t n) {
  uint64_t sums[8] = {};
  for (size_t i = 0; i + 8 <= n; i += 8) {
    for (size_t lane = 0; lane < 8; ++lane) sums[lane] ^= data[i + lane];
  }
  uint64_t result = 0;
  for (uint64_t sum : sums) result ^= sum;
  return result;
}

// Seconds until `fn(thread)` has returned on every thread; the best of five.
template <class Fn>
double BestTime(uint32_t num_threads, const Fn& fn) {
  double best = 1e30;
  for (int i = 0; i < 5; ++i) {
    const double start = Now();
    std::vector<std::thread> threads;
    for (uint32_t thread = 0; thread < num_threads; ++thread) threads.emplace_back(fn, thread);
    for (std::thread& thread : threads) thread.join();
    best = std::min(best, Now() - start);
  }
  return best;
}

}  // namespace

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double MeasureReadBandwidth(uint32_t num_threads, size_t bytes) {
  std::vector<DeviceBuffer> buffers;
  for (uint32_t thread = 0; thread < num_threads; ++thread) {
    buffers.push_back(std::move(*cpu::AllocatePages(bytes, "bandwidth test", cpu::Pages::kOnUse)));
    std::fill_n(buffers.back().as<uint64_t>(), bytes / 8, uint64_t{thread + 1});
  }
  const double seconds = BestTime(num_threads, [&](uint32_t thread) {
    g_sink += XorAll(buffers[thread].as<uint64_t>(), bytes / 8);
  });
  return static_cast<double>(num_threads * bytes) / seconds;
}

double MeasureBf16Peak([[maybe_unused]] uint32_t num_threads) {
#if defined(__x86_64__)
  const cpu::InstructionSet best = cpu::BestInstructionSet();
  if (best == cpu::InstructionSet::kAmx) {
    constexpr uint64_t kCount = 10'000'000;
    const double seconds = BestTime(num_threads, [](uint32_t) { RunTileLoop(kCount); });
    return num_threads * kCount * kFlopPerTileIteration / seconds;
  }
  if (best == cpu::InstructionSet::kAvx512) {
    constexpr uint64_t kCount = 10'000'000;
    const double seconds = BestTime(num_threads, [](uint32_t) { RunBf16DotLoop(kCount); });
    return num_threads * kCount * kFlopPerBf16DotIteration / seconds;
  }
#endif
  return 0;
}

}  // namespace kvs::bench
