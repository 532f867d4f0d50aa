// cuBLASLt as a matrix product for many rows. The library is opened at run time, so that machines
// without it can run everything else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "gpu/gpu_weight.h"
#include "gpu/launch.h"
#include "kvserve/kernel_params.h"
#include "kvserve/status.h"

namespace kvs::gpu {

struct QuantizedRows;

// Runs products of one activation dtype on one device, from one thread. Weights are of that dtype
// or of kF8E4M3: those are multiplied by codes, and the sums by the scales of both rows.
class BlasLt {
 public:
  struct Options {
    DType act = DType::kBf16;   // of x, and of weights that are not FP8
    void* workspace = nullptr;  // device memory, 256-byte aligned; used by every product
    size_t workspace_bytes = 0;
    float* sums = nullptr;  // device memory for [num_rows, out_features] sums of FP8 products
    size_t num_sums = 0;
    // Where Tune keeps what it found: this and the library's version are the file's name. Empty:
    // nowhere.
    std::string cache_prefix;
  };
  // kUnavailable, naming the places that were searched, when the library cannot be opened.
  static Result<std::unique_ptr<BlasLt>> Open(const Options& options);
  ~BlasLt();

  // "cuBLASLt 13.0.2"
  const std::string& Describe() const;

  // Chooses an algorithm for each shape of `weights` (shapes repeat; some of a shape are used in
  // turn, so that none is timed out of the cache) and for `row_counts`, powers of two and at least
  // one, the most important first, by timing the library's candidates. Results come from the cache
  // file where they are in it, and are added to it. Nothing is timed after `budget_ms`; what was
  // not runs as the library proposes. Loads the kernels in either case. Takes and frees device
  // memory for x and out, and skips what does not fit. Waits for the stream.
  struct TuneOptions {
    std::span<const uint32_t> row_counts;
    bool out_is_f32;
    double budget_ms;
  };
  void Tune(std::span<const GpuWeight* const> weights, const TuneOptions& options, Stream stream);

  // Whether this library, on this device, has products of FP8 with a scale for each row.
  bool MultipliesFp8();

  // `quantized` is x where the weight is of kF8E4M3.
  void Run(const LinearParams& params, const Launch& launch,
           const QuantizedRows* quantized = nullptr);

 private:
  struct State;
  explicit BlasLt(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace kvs::gpu
