// What this machine can do at most, measured in the same run as the kernels that are held to it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvs::bench {

// Seconds since some fixed moment.
double Now();

// Bytes per second that `num_threads` threads read together from memory, `bytes` each.
double MeasureReadBandwidth(uint32_t num_threads, size_t bytes);

// FLOP/s of products of `num_threads` threads by what the processor has for bf16: tdpbf16ps,
// vdpbf16ps, or fused multiply-adds of float32; 0 where there is none of these.
double MeasureBf16Peak(uint32_t num_threads);

// A loop of `count` * 24 independent vdpbf16ps, 64 FLOP each. REQUIRES: AVX512-BF16.
void RunBf16DotLoop(uint64_t count);
inline constexpr double kFlopPerBf16DotIteration = 24.0 * 64.0;
// A loop of `count` * 4 independent tdpbf16ps of whole tiles. REQUIRES: AMX.
void RunTileLoop(uint64_t count);
inline constexpr double kFlopPerTileIteration = 4.0 * 2 * 16 * 16 * 32;

}  // namespace kvs::bench
