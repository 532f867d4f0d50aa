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

#if defined(__x86_64__)
constexpr double kFlopPerFmaIteration = 12.0 * 16.0;

// `count` * 12 independent fused multiply-adds of eight floats; a compiler would keep some of the
// sums in memory. REQUIRES: FMA.
void RunFmaLoop(uint64_t count) {
  __asm__ volatile(
      "vzeroall\n"
      "1:\n"
      "vfmadd231ps %%ymm0, %%ymm0, %%ymm1\n"
      "vfmadd231ps %%ymm0, %%ymm0, %%ymm2\n"
      "vfmadd231ps %%ymm0, %%ymm0, %%ymm3\n"
      "vfmadd231ps %%ymm0, %%ymm0, %%ymm4\n"
      "vfmadd231ps %%ymm0, %%ymm0, %%ymm5\n"
      "vfmadd231ps %%ymm0, %%ymm0, %%ymm6\n"
      "vfmadd231ps %%ymm0, %%ymm0, %%ymm7\n"
      "vfmadd231ps %%ymm0, %%ymm0, %%ymm8\n"
      "vfmadd231ps %%ymm0, %%ymm0, %%ymm9\n"
      "vfmadd231ps %%ymm0, %%ymm0, %%ymm10\n"
      "vfmadd231ps %%ymm0, %%ymm0, %%ymm11\n"
      "vfmadd231ps %%ymm0, %%ymm0, %%ymm12\n"
      "decq %0\n"
      "jnz 1b\n"
      "vzeroupper\n"
      : "+r"(count)
      :
      : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "cc");
}
#endif

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
    constexpr uint64_t kCount = 1'000'000;
    const double seconds = BestTime(num_threads, [](uint32_t) { RunTileLoop(kCount); });
    return num_threads * kCount * kFlopPerTileIteration / seconds;
  }
  if (best == cpu::InstructionSet::kAvx512) {
    constexpr uint64_t kCount = 10'000'000;
    const double seconds = BestTime(num_threads, [](uint32_t) { RunBf16DotLoop(kCount); });
    return num_threads * kCount * kFlopPerBf16DotIteration / seconds;
  }
  if (best == cpu::InstructionSet::kAvx2) {
    constexpr uint64_t kCount = 20'000'000;
    const double seconds = BestTime(num_threads, [](uint32_t) { RunFmaLoop(kCount); });
    return num_threads * kCount * kFlopPerFmaIteration / seconds;
  }
#endif
  return 0;
}

}  // namespace kvs::bench
