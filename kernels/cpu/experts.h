// The ops of mixture-of-experts layers. The rows of one expert are brought together, multiplied as
// any others, and put back where they belong: a row's result does not depend on who shares its
// expert.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cpu/linear.h"
#include "cpu/thread_pool.h"
#include "kvserve/backend.h"

namespace kvs::cpu {

class ExpertOps {
 public:
  explicit ExpertOps(const LinearOp& linear) : linear_(linear) {}

  // Takes all memory for calls within `limits`.
  Result<void> Reserve(const BackendLimits& limits);
  void Route(const RouteExpertsParams& params, ThreadPool& pool) const;
  // `scratch` is LinearOp's.
  void Linear(const ExpertLinearParams& params, std::span<uint8_t> scratch, ThreadPool& pool);
  void Combine(const CombineExpertsParams& params, ThreadPool& pool) const;

 private:
  // Fills order_ with the rows, expert by expert, and ends_ with where each expert's rows end.
  void SortByExpert(const ExpertLinearParams& params);

  const LinearOp& linear_;
  std::vector<uint32_t> order_;
  std::vector<uint32_t> ends_;
  DeviceBuffer memory_;
  float* gathered_ = nullptr;  // [kXMaxRows][in_features]
  float* results_ = nullptr;   // [kXMaxRows][out_features]
  size_t max_features_ = 0;    // of an expert's inputs or outputs
};

}  // namespace kvs::cpu
