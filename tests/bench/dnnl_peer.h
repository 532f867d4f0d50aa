// oneDNN's bf16 matrix product, as a peer of Backend::Linear in kernel_bench.
#pragma once

#include <cstdint>

namespace kvs::bench {

// Seconds of one [rows, in] x [in, out] product, median of several; weights in oneDNN's own order.
// Negative when the build has no oneDNN.
double MeasureDnnlLinear(uint32_t rows, uint32_t in, uint32_t out, uint32_t num_threads);

}  // namespace kvs::bench
