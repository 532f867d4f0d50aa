// Backend: one device's memory and one virtual method per operation. The model is written once over
// it; kernels/cpu implements it in the executable, GPU plugins in their own libraries.
//
// Threads: every method is called from one thread at a time (the engine thread after start-up).
// Ops may run asynchronously in order; Synchronize() waits. A fault of the device aborts
// (KVS_CHECK): a half-alive device serves nobody.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "kvserve/check.h"
#include "kvserve/device_info.h"
#include "kvserve/dtype.h"
#include "kvserve/kernel_params.h"
#include "kvserve/kv_layout.h"
#include "kvserve/model_config.h"
#include "kvserve/status.h"

namespace kvs {

// Owns device memory. Zeroed at allocation, aligned to at least 64 bytes. Movable.
class DeviceBuffer {
 public:
  using Free = void (*)(void* data, size_t bytes);
  DeviceBuffer() = default;
  DeviceBuffer(void* data, size_t bytes, Free free) : data_(data), bytes_(bytes), free_(free) {}
  DeviceBuffer(DeviceBuffer&& other) noexcept { *this = std::move(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    if (this == &other) return *this;
    Reset();
    data_ = std::exchange(other.data_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
    free_ = other.free_;
    return *this;
  }
  ~DeviceBuffer() { Reset(); }

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void Reset() {
    if (data_ != nullptr) free_(data_, bytes_);
    data_ = nullptr;
  }
  void* data_ = nullptr;
  size_t bytes_ = 0;
  Free free_ = nullptr;
};

// Row-major weights in host memory, as a checkpoint holds them.
struct HostMatrix {
  const void* data;
  DType dtype;
  uint32_t rows;
  uint32_t cols;
  // Of kF8E4M3: an element is its code times the scale of its row.
  const float* row_scales = nullptr;  // [rows]
  // Of kF8E4M3: what a product divides its input by before it quantizes that too; 0: each row by a
  // scale of its own, its largest magnitude / 448.
  float input_scale = 0.0f;
};

// What a step may need at most; scratch memory is sized from it once.
struct BackendLimits {
  uint32_t max_num_seqs;
  uint32_t max_num_batched_tokens;
  uint32_t max_num_logits_rows;
  uint32_t max_model_len;
  uint32_t num_heads;
  uint32_t num_kv_heads;
  uint32_t head_dim;
  uint32_t hidden_size;
  uint32_t intermediate_size;
  uint32_t vocab_size;
  ExpertsConfig experts = {};
};

// Bytes of a device's own memory.
struct DeviceMemory {
  uint64_t total;
  uint64_t free;
};

// What a device that works behind the host has done so far.
struct DeviceTime {
  double busy_seconds = 0.0;  // computing and sampling steps
  double idle_seconds = 0.0;  // between two steps, the second of which was wanted during the first
};

class Backend {
 public:
  virtual ~Backend() = default;

  // One line for the start-up log: device, instruction set or architecture, threads.
  virtual std::string Describe() const = 0;
  virtual DeviceInfo Info() const = 0;
  // What activations are held in; the CPU holds float32.
  virtual DType activation_dtype() const = 0;

  // Nothing where the device computes in the host's memory.
  virtual std::optional<DeviceMemory> device_memory() const { return std::nullopt; }
  // Whether there are kernels for a network of this shape: asked before any memory is taken.
  // kInvalidArgument or kDataError names what is not supported and what is.
  virtual Result<void> CheckSupport(const KvLayout&, uint32_t /*num_heads*/) const { return {}; }

  // kOsError when the memory cannot be had; `what` names its use in the message.
  virtual Result<DeviceBuffer> Allocate(size_t bytes, const char* what) = 0;
  // The same for memory that is used bit by bit, and perhaps never all of it: where the system
  // hands out pages on their first use, these may come so, and the start does not wait for them.
  virtual Result<DeviceBuffer> AllocatePool(size_t bytes, const char* what) {
    return Allocate(bytes, what);
  }
  virtual void CopyToDevice(void* device, const void* host, size_t bytes) = 0;
  virtual void CopyToHost(void* host, const void* device, size_t bytes) = 0;

  // Stacks `parts` by rows (equal cols) into one packed matrix held as `dtype`, converting where
  // the checkpoint's dtype differs. The parts may be unmapped afterwards. kF8E4M3 is for parts of
  // kF8E4M3 that WhyNoFp8 says nothing against: Linear then multiplies codes by codes, sums in
  // float32, and scales the sums. Where the parts' inputs have scales of their own, the largest is
  // that of all.
  virtual Result<std::unique_ptr<LinearWeight>> PackLinear(std::span<const HostMatrix> parts,
                                                           DType dtype) = 0;

  // Why a matrix of this shape cannot be held as kF8E4M3, for the log: "this device multiplies no
  // FP8". Empty where it can.
  virtual std::string WhyNoFp8(uint32_t /*rows*/, uint32_t /*cols*/) const {
    return "this device multiplies no FP8";
  }

  // Takes every scratch buffer. Called once, before any op below; no op allocates after it.
  virtual Result<void> Reserve(const BackendLimits& limits) = 0;

  // Before the ops of a step: what was planned for the step before holds no longer.
  virtual void BeginStep() {}
  // How many rows to make of `num_seqs` rows that are one token of a sequence each, so that few
  // batch sizes exist and RunRecorded can serve them; num_seqs itself where that is of no use.
  virtual uint32_t PaddedBatch(uint32_t num_seqs) const { return num_seqs; }
  // A sequence that computes at most so many tokens in a step is given as that many sequences of
  // one token, each with the block table of all: what it attends to is in the cache either way, and
  // the device divides the contexts of single tokens best. 1: never.
  virtual uint32_t FewTokens() const { return 1; }
  // Runs `ops`, which calls ops of this backend and nothing else. A call with the `key` of an
  // earlier one may repeat the launches of that one instead: the caller promises that every pointer
  // and size in them is the same.
  virtual void RunRecorded(uint64_t /*key*/, const std::function<void()>& ops) { ops(); }

  virtual void Embed(const EmbedParams& params) = 0;
  virtual void AddRmsNorm(const AddRmsNormParams& params) = 0;
  virtual void Linear(const LinearParams& params) = 0;
  // Whether Linear normalizes its input and finishes its output (LinearParams::norm_weight, finish)
  // for this many rows of any matrix it has packed, faster than ops of their own.
  virtual bool FusesLinear(uint32_t /*num_rows*/) const { return false; }
  // The same of LinearFinish::kSiluMul alone, for this matrix.
  virtual bool FusesSiluMul(const LinearWeight& /*gate_up*/, uint32_t /*num_rows*/) const {
    return false;
  }
  virtual void RopeKvStore(const RopeKvStoreParams& params) = 0;
  // Whether PagedAttention does the work of RopeKvStore (PagedAttentionParams::rope), faster than
  // an op of its own.
  virtual bool FusesRope() const { return false; }
  virtual void PagedAttention(const PagedAttentionParams& params) = 0;
  virtual void SiluMul(const SiluMulParams& params) = 0;
  virtual void GatherRows(const GatherRowsParams& params) = 0;

  // A backend without the three ops of experts loads no model that has some.
  virtual bool has_experts() const { return false; }
  virtual void RouteExperts(const RouteExpertsParams&) { KVS_CHECK(has_experts()); }
  virtual void ExpertLinear(const ExpertLinearParams&) { KVS_CHECK(has_experts()); }
  virtual void CombineExperts(const CombineExpertsParams&) { KVS_CHECK(has_experts()); }

  // Sampling in two halves, so that the host can work in between: the first starts it (rows and
  // what they point to are free again when it returns), the second waits and fills params.results.
  virtual void StartSample(const SampleParams& params) = 0;
  virtual void FinishSample(const SampleParams& params) = 0;
  // Where the device keeps the tokens of the latest StartSample, by row, for an Embed that follows.
  // Null where the device has done its work when StartSample returns: the host then has them.
  virtual const TokenId* sampled_tokens() const { return nullptr; }
  // Up to the last FinishSample. Zeros where the host computes itself.
  virtual DeviceTime device_time() const { return {}; }
  void Sample(const SampleParams& params) {
    StartSample(params);
    FinishSample(params);
  }
  virtual void Synchronize() = 0;
};

struct CpuBackendOptions {
  uint32_t num_threads = 0;  // 0 = one per physical core this process may use
  // Highest instruction set to use, for tests and for isolating a fault: "auto", "amx",
  // "avx512", "avx2", "portable". kUnavailable when the processor lacks it.
  std::string instruction_set = "auto";
};

Result<std::unique_ptr<Backend>> MakeCpuBackend(const CpuBackendOptions& options);

}  // namespace kvs
