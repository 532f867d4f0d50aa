// Linear layers: which kernel multiplies how many rows.
#pragma once

#include <memory>
#include <set>
#include <span>
#include <string>
#include <tuple>

#include "gpu/blas_lt.h"
#include "gpu/gpu_weight.h"
#include "gpu/launch.h"
#include "gpu/linear_kernels.h"
#include "kvserve/kernel_params.h"
#include "kvserve/status.h"

namespace kvs::gpu {

struct LinearOptions {
  DType act = DType::kBf16;  // kBf16 or kF16; also of every weight that is not kF8E4M3
  // Only kernels by which a row's result depends on that row and the weight alone (bit for bit).
  bool batch_invariant = false;
  // A directory, made when it is missing, where tuned algorithms are kept; empty = nowhere.
  std::string cache_dir;
};

// Up to some tens of rows stream the weights through own kernels, where they are faster than
// cuBLASLt; more go to cuBLASLt, or to GemmTiled when the library is missing or `batch_invariant`
// is set. Weights of kF8E4M3 go the same two ways, with rows that are quantized first. Not
// thread-safe; one stream at a time.
class LinearOp {
 public:
  LinearOp() = default;
  LinearOp(const LinearOp&) = delete;
  LinearOp& operator=(const LinearOp&) = delete;
  ~LinearOp();

  // Takes all device memory that Run needs, on the current device. Once, before the rest. kOsError
  // when the memory cannot be had.
  Result<void> Reserve(const LinearOptions& options, const DeviceFacts& facts);

  // Why weights of this shape cannot be kF8E4M3; empty where they can. After Reserve.
  std::string WhyNoFp8(uint32_t rows, uint32_t cols) const;
  // Takes memory for the codes of up to `max_rows` rows of x. Before Tune and Run where some of
  // `weights` are kF8E4M3; does nothing where none is.
  Result<void> ReserveCodes(std::span<const GpuWeight* const> weights, uint32_t max_rows);

  // Chooses cuBLASLt's algorithms for the shapes of `weights`, for up to `max_rows` rows of x, and
  // for up to some tens of rows between the library and the own kernels; with results of the
  // activations' dtype, or of float32 (the logits). Weights of one shape are used in turn: with
  // four, none is timed out of the cache. Takes well under half a second, less when the cache
  // directory knows the shapes, and device memory for its time: call it before the KV pool is
  // taken. Optional.
  void Tune(std::span<const GpuWeight* const> weights, uint32_t max_rows, bool out_is_f32,
            Stream stream);

  // Whether Run normalizes x and finishes its output for this many rows of all these weights.
  bool Fuses(uint32_t num_rows, std::span<const GpuWeight* const> weights) const;
  // Whether Run multiplies gate and up (LinearFinish::kSiluMul) for this many rows, at no cost.
  bool FusesSiluMul(uint32_t num_rows, const GpuWeight& weight) const;

  // x, out and the weight are 16-byte aligned; in_features is a multiple of 8. May be captured.
  void Run(const LinearParams& params, const Launch& launch);

  // For the log: "own to 8 rows where faster, cuBLASLt 13.0.2", and why when cuBLASLt is not used.
  std::string Describe() const;

 private:
  // Rounded up to a power of two, out_features, in_features, whether the results are float32.
  using Shape = std::tuple<uint32_t, uint32_t, uint32_t, bool>;
  static Shape Bucket(const LinearParams& params);

  // No own kernel that is chosen by timing serves more rows.
  uint32_t MaxOwnRows() const;
  void RunFp8(const LinearParams& params, const Launch& launch);
  // Runs an own kernel that reads the weight once; false when none serves these rows.
  bool RunStreaming(const LinearParams& params, const Launch& launch);
  // Whether the library multiplies by the weights, all of one shape, faster than RunStreaming.
  bool IsLibraryFaster(std::span<const GpuWeight* const> weights, LinearParams params,
                       Stream stream);

  LinearOptions options_;
  DeviceFacts facts_;
  GemvWorkspace gemv_{};
  uint32_t max_gemv_rows_ = 0;
  DeviceBuffer memory_;
  DeviceBuffer codes_, code_scales_;  // of x
  std::unique_ptr<BlasLt> blas_lt_;
  std::set<Shape> library_is_faster_;
  std::string why_no_blas_lt_;
};

}  // namespace kvs::gpu
