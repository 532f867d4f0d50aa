// What this machine can do at most, measured in the same run as the kernels that are held to it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvs::bench {

// Seconds since some fixed moment.
double Now();

// Bytes per second that `num_threads` threads read together from memory, `bytes` each.
double MeasureReadBandwidth(uint32_t num_threads, size_t bytes);

// FLOP/s of bf16 dot products (vdpbf16ps) of `num_threads` threads; 0 where there is no such
// instruction.
double MeasureBf16Peak(uint32_t num_threads);

// A loop of `count` * 24 independent vdpbf16ps, 64 FLOP each. REQUIRES: AVX512-BF16.
void RunBf16DotLoop(uint64_t count);
inline constexpr double kFlopPerBf16DotIteration = 24.0 * 64.0;

}  // namespace kvs::bench
