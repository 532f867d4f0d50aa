// What the fuzz tests share: their length, their seed and a source of small numbers.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace kvs {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr uint64_t kFuzzDivisor = 5;
#else
inline constexpr uint64_t kFuzzDivisor = 1;
#endif

class FuzzRandom {
 public:
  // KVS_FUZZ_SEED replaces the test's own seed. The one in use is printed.
  FuzzRandom(const char* test, uint64_t default_seed) {
    const char* override = std::getenv("KVS_FUZZ_SEED");
    const uint64_t seed = override != nullptr ? std::strtoull(override, nullptr, 10) : default_seed;
    std::printf("%s: seed %llu\n", test, static_cast<unsigned long long>(seed));
    engine_.seed(seed);
  }

  // In [0, bound).
  uint32_t Below(uint32_t bound) { return static_cast<uint32_t>(engine_() % bound); }
  // In [low, high].
  uint32_t Between(uint32_t low, uint32_t high) { return low + Below(high - low + 1); }
  bool OneIn(uint32_t n) { return Below(n) == 0; }

 private:
  std::mt19937_64 engine_;
};

}  // namespace kvs
