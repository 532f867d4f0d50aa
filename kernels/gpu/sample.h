// SampleOp: the Sample of kernel_params.h in two halves, so that the host can prepare the next step
// while the device works. Start sends rows and their lists in one copy; tokens come to stand in
// device memory, where the next step's embedding can read them; Finish waits for the one copy back.
//
// A row's token depends on that row alone, bit for bit: sums are formed over fixed chunks or of
// integers. As on the CPU, a draw walks what min_p, top_k and top_p leave from the most likely
// token on, and a row that none of them truncates in the order of tokens.
#pragma once

#include <array>
#include <cstdint>

#include "gpu/launch.h"
#include "gpu/sample_pack.h"
#include "kvserve/backend.h"
#include "kvserve/kernel_params.h"
#include "kvserve/status.h"

namespace kvs::gpu {

class SampleOp {
 public:
  // How many calls of Start may be without their Finish.
  static constexpr uint32_t kInFlight = 2;

  SampleOp() = default;
  SampleOp(const SampleOp&) = delete;
  SampleOp& operator=(const SampleOp&) = delete;
  // The stream of Start must be idle.
  ~SampleOp();

  // Takes all memory, pinned host memory too. kInvalidArgument for a vocabulary beyond kMaxVocab.
  Result<void> Reserve(const BackendLimits& limits);

  // Enqueues on launch.stream. What params.rows points to has been copied when it returns. It waits
  // for the device only where the lists of all rows together do not fit the buffer.
  void Start(const SampleParams& params, const Launch& launch);

  // Of the oldest Start without one: waits for the device and fills params.results. `params` are
  // those of that Start; of its rows only num_logprobs is read.
  void Finish(const SampleParams& params);

  // [rows of the latest Start] in device memory, written once its kernels have run.
  const TokenId* token_ids() const { return output_.as<const TokenId>(); }

 private:
  // Host memory of one Start.
  struct Slot {
    DeviceBuffer input;
    DeviceBuffer output;
    Event input_copied{};
    Event output_copied{};
  };
  // The kernels of one batch, which is in input_; `first` is its first row.
  void Run(const SampleParams& params, const PackedBatch& packed, uint32_t first,
           const Launch& launch) const;

  uint32_t max_rows_ = 0;
  uint32_t max_entries_ = 0;
  DeviceBuffer input_;   // what PackRows made
  DeviceBuffer output_;  // [rows] TokenId, then [records] LogprobRecord
  DeviceBuffer chunks_, histograms_, partial_keys_, broken_, arrivals_;
  std::array<Slot, kInFlight> slots_;
  uint32_t num_started_ = 0;
  uint32_t num_finished_ = 0;
};

}  // namespace kvs::gpu
