// The CPU Backend: memory, scratch and the thread pool; each op is a file of its own.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "cpu/attention.h"
#include "cpu/cpu_features.h"
#include "cpu/experts.h"
#include "cpu/kernel_table.h"
#include "cpu/linear.h"
#include "cpu/memory.h"
#include "cpu/packed_weight.h"
#include "cpu/rowwise.h"
#include "cpu/sample.h"
#include "cpu/thread_pool.h"
#include "kvserve/backend.h"
#include "kvserve/check.h"

namespace kvs {
namespace cpu {
namespace {

class CpuBackend final : public Backend {
 public:
  CpuBackend(InstructionSet set, uint32_t num_threads)
      : set_(set),
        pool_(num_threads),
        linear_(KernelsFor(set).linear),
        rowwise_(KernelsFor(set).rowwise),
        attention_(KernelsFor(set).attention),
        sample_(KernelsFor(set).sample),
        experts_(linear_) {}

  std::string Describe() const override {
    return "cpu, " + std::string(ToString(set_)) + ", " + std::to_string(pool_.num_threads()) +
           (pool_.num_threads() == 1 ? " thread" : " threads");
  }
  DeviceInfo Info() const override {
    DeviceInfo info;
    info.name = CpuModelName();
    info.architecture = ToString(set_);
    return info;
  }
  DType activation_dtype() const override { return DType::kF32; }

  Result<DeviceBuffer> Allocate(size_t bytes, const char* what) override {
    return AllocatePages(bytes, what, Pages::kNow);
  }
  Result<DeviceBuffer> AllocatePool(size_t bytes, const char* what) override {
    return AllocatePages(bytes, what, Pages::kOnUse);
  }
  void CopyToDevice(void* device, const void* host, size_t bytes) override {
    std::memcpy(device, host, bytes);
  }
  void CopyToHost(void* host, const void* device, size_t bytes) override {
    std::memcpy(host, device, bytes);
  }

  Result<std::unique_ptr<LinearWeight>> PackLinear(std::span<const HostMatrix> parts,
                                                   DType dtype) override {
    auto packed = PackWeight(parts, dtype, pool_);
    if (!packed) return tl::unexpected<Status>(std::move(packed).error());
    return std::unique_ptr<LinearWeight>(std::move(*packed));
  }

  Result<void> Reserve(const BackendLimits& limits) override {
    const uint32_t max_rows = std::max(limits.max_num_batched_tokens, limits.max_num_logits_rows);
    const uint32_t max_in =
        std::max({limits.hidden_size, limits.intermediate_size, limits.experts.intermediate_size,
                  limits.num_heads * limits.head_dim});
    auto scratch =
        AllocatePages(LinearOp::ScratchBytes(max_rows, max_in), "activation scratch", Pages::kNow);
    if (!scratch) return tl::unexpected<Status>(std::move(scratch).error());
    linear_scratch_ = std::move(*scratch);
    KVS_RETURN_IF_ERROR(attention_.Reserve(limits, pool_.num_threads()));
    KVS_RETURN_IF_ERROR(experts_.Reserve(limits));
    return sample_.Reserve(limits.vocab_size, pool_.num_threads());
  }

  void Embed(const EmbedParams& params) override {
    const auto& table = static_cast<const PackedWeight&>(*params.table);
    pool_.ParallelFor(params.num_tokens, [&](uint32_t token, uint32_t) {
      UnpackRow(table, params.token_ids[token].value,
                static_cast<float*>(params.out) + size_t{token} * table.in_features);
    });
  }
  void AddRmsNorm(const AddRmsNormParams& params) override { rowwise_.AddRmsNorm(params, pool_); }
  void Linear(const LinearParams& params) override {
    linear_.Run(params, linear_scratch_.as<uint8_t>(), linear_scratch_.bytes(), pool_);
  }
  void RopeKvStore(const RopeKvStoreParams& params) override {
    rowwise_.RopeKvStore(params, pool_);
  }
  void PagedAttention(const PagedAttentionParams& params) override {
    attention_.Run(params, pool_);
  }
  void SiluMul(const SiluMulParams& params) override { rowwise_.SiluMul(params, pool_); }
  void GatherRows(const GatherRowsParams& params) override {
    for (uint32_t i = 0; i < params.num_rows; ++i) {
      std::memcpy(static_cast<float*>(params.out) + size_t{i} * params.dim,
                  static_cast<const float*>(params.in) + size_t{params.rows[i]} * params.dim,
                  size_t{params.dim} * sizeof(float));
    }
  }
  bool has_experts() const override { return true; }
  void RouteExperts(const RouteExpertsParams& params) override { experts_.Route(params, pool_); }
  void ExpertLinear(const ExpertLinearParams& params) override {
    experts_.Linear(params, {linear_scratch_.as<uint8_t>(), linear_scratch_.bytes()}, pool_);
  }
  void CombineExperts(const CombineExpertsParams& params) override {
    experts_.Combine(params, pool_);
  }
  void StartSample(const SampleParams& params) override { sample_.Run(params, pool_); }
  void FinishSample(const SampleParams&) override {}
  void Synchronize() override {}

 private:
  const InstructionSet set_;
  ThreadPool pool_;
  LinearOp linear_;
  RowwiseOps rowwise_;
  AttentionOp attention_;
  SampleOp sample_;
  ExpertOps experts_;
  DeviceBuffer linear_scratch_;
};

Result<InstructionSet> ChooseInstructionSet(const std::string& name) {
  const InstructionSet best = BestInstructionSet();
  if (name == "auto") return best;
  for (const InstructionSet set : kInstructionSets) {
    if (name != ToString(set)) continue;
    if (set <= best) return set;
    return Error(Code::kUnavailable, "this processor lacks instruction set '" + name +
                                         "'; its best is '" + std::string(ToString(best)) + "'");
  }
  return Error(Code::kInvalidArgument,
               "instruction set: expected auto, amx, avx512, avx2 or portable, got '" + name + "'");
}

}  // namespace
}  // namespace cpu

Result<std::unique_ptr<Backend>> MakeCpuBackend(const CpuBackendOptions& options) {
  auto set = cpu::ChooseInstructionSet(options.instruction_set);
  if (!set) return tl::unexpected<Status>(std::move(set).error());
  const uint32_t num_threads =
      options.num_threads > 0 ? options.num_threads : cpu::DefaultNumThreads();
  return std::make_unique<cpu::CpuBackend>(*set, num_threads);
}

}  // namespace kvs
