// What the GPU benchmarks share. Every figure is a median of graph replays, and stands beside the
// ceilings measured in the same run.
#pragma once

#include <functional>
#include <vector>

#include "gpu/gpu_test_util.h"

namespace kvs::gpu {

struct Ceilings {
  double read_bytes_per_s;  // device memory, 8 GiB, one kernel that only reads
  double copy_bytes_per_s;  // device to device, bytes read plus bytes written
};

Ceilings MeasureCeilings();

// Captures launches[0..] into one graph, replays it and returns the median microseconds of one
// launch. Launches should touch different memory, several times the second-level cache in all.
// `launch.stream` is the captured stream.
double MicrosecondsPerLaunch(const std::vector<std::function<void(const Launch&)>>& launches,
                             Launch launch);

// The same of one call of `run` at a time, from the host, without a graph.
double MicrosecondsAlone(const std::function<void(const Launch&)>& run, Launch launch);

// Fills device memory with bits that are finite, small and not zero in bf16, f16 and both FP8.
void FillRandom(void* data, size_t bytes, uint32_t seed);

// `count` elements, a multiple of 8, of mean 0 and deviation 1: what matrix instructions need to
// draw the power, and so to run at the clock, that real data gives them.
void FillNormal(void* data, size_t count, KvCacheDType dtype, uint32_t seed);

// One table each.
void DecodeBench(const Ceilings& ceilings);
void DecodeInOrderBench(const Ceilings& ceilings);  // as a runtime without dependent launches
void RowOpsBench(const Ceilings& ceilings);
void LinearBench(const Ceilings& ceilings);
void PrefillBench(const Ceilings& ceilings);
void StepBench(const Ceilings& ceilings);

}  // namespace kvs::gpu
