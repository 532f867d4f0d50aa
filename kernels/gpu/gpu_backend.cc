#include "gpu/gpu_backend.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "gpu/attention.h"
#include "gpu/device_facts.h"
#include "gpu/experts.h"
#include "gpu/gpu_memory.h"
#include "gpu/gpu_weight.h"
#include "gpu/graph_recorder.h"
#include "gpu/linear.h"
#include "gpu/ops.h"
#include "gpu/sample.h"
#include "gpu/step_timer.h"
#include "gpu/upload.h"

namespace kvs::gpu {
namespace {

// What a step uploads goes through pinned memory in one piece; larger copies are not a step's.
constexpr size_t kStagingBytes = size_t{4} << 20;
constexpr uint32_t kStagingSlots = 4;

// The rest of a prompt after a prefix hit is as long as a block at most.
constexpr uint32_t kFewTokens = 16;
static_assert(kFewTokens <= kDecodeMaxNewTokens);

// Of each shape, to tune the linear layers with: enough to fill the second-level cache.
constexpr int kWeightsOfShape = 4;

std::string Gibibytes(size_t bytes) {
  return std::to_string(bytes >> 30) + "." + std::to_string((bytes >> 20) % 1024 * 10 / 1024) +
         " GiB";
}

class GpuBackend final : public Backend {
 public:
  GpuBackend(const GpuBackendOptions& options, const DeviceFacts& facts, Stream stream)
      : options_(options),
        facts_(facts),
        stream_(stream),
        uploader_(facts.index),
        timer_(stream),
        graphs_(stream) {
    launch_.stream = stream;
    launch_.act = options.dtype;
    launch_.facts = &facts_;
    launch_.dependent = facts.major >= 9;
  }
  ~GpuBackend() override {
    KVS_GPU(StreamSynchronize(stream_));
    KVS_GPU(FreeHost(fetched_saturated_));
    for (Staging& slot : staging_) {
      KVS_GPU(FreeHost(slot.pinned));
      KVS_GPU(EventDestroy(slot.fetched));
    }
  }

  Result<void> Init() {
    for (uint32_t i = 0; i < kStagingSlots; ++i) {
      Staging& slot = staging_.emplace_back();
      KVS_GPU(HostAlloc(&slot.pinned, kStagingBytes, 0));
      KVS_GPU(EventCreateWithFlags(&slot.fetched, KVS_GPU_NAME(EventDisableTiming)));
    }
    auto counter = AllocateDevice(sizeof(uint64_t), "saturation counter");
    if (!counter) return tl::unexpected(counter.error());
    saturated_ = std::move(*counter);
    KVS_GPU(HostAlloc(reinterpret_cast<void**>(&fetched_saturated_), sizeof(uint64_t), 0));
    *fetched_saturated_ = 0;
    LinearOptions linear;
    linear.act = options_.dtype;
    linear.batch_invariant = options_.batch_invariant;
    linear.cache_dir = options_.cache_dir;
    return linear_.Reserve(linear, facts_);
  }

  std::string Describe() const override {
    std::string text = std::string(kDeviceKind) + ":" + std::to_string(facts_.index) + ", " +
                       facts_.name + ", " + facts_.architecture + ", " +
                       Gibibytes(facts_.total_bytes) + " of which " + Gibibytes(facts_.free_bytes) +
                       " were free; linear layers: " + linear_.Describe();
    if (options_.batch_invariant) text += "; batch-invariant";
    if (options_.enforce_eager) text += "; without graphs";
    return text;
  }
  DeviceInfo Info() const override {
    DeviceInfo info;
    info.kind = ToString(DeviceKind::kHip) == kDeviceKind ? DeviceKind::kHip : DeviceKind::kCuda;
    info.index = static_cast<uint32_t>(facts_.index);
    info.name = facts_.name;
    info.architecture = facts_.architecture;
    info.driver = VersionText(facts_.driver_version);
    info.runtime = VersionText(facts_.runtime_version);
    info.wave_size = static_cast<uint32_t>(facts_.wave_size);
    info.has_fp8_convert = facts_.has_fp8_convert;
    return info;
  }
  DType activation_dtype() const override { return options_.dtype; }

  std::optional<DeviceMemory> device_memory() const override {
    size_t free_bytes = 0, total_bytes = 0;
    KVS_GPU(MemGetInfo(&free_bytes, &total_bytes));
    return DeviceMemory{total_bytes, free_bytes};
  }
  Result<void> CheckSupport(const KvLayout& layout, uint32_t num_heads) const override {
    return AttentionOp::CheckSupport(layout, num_heads, facts_);
  }

  Result<DeviceBuffer> Allocate(size_t bytes, const char* what) override {
    return AllocateDevice(bytes, what);
  }
  void CopyToDevice(void* device, const void* host, size_t bytes) override;
  void CopyToHost(void* host, const void* device, size_t bytes) override {
    KVS_GPU(MemcpyAsync(host, device, bytes, KVS_GPU_NAME(MemcpyDeviceToHost), stream_));
    KVS_GPU(StreamSynchronize(stream_));
  }
  Result<std::unique_ptr<LinearWeight>> PackLinear(std::span<const HostMatrix> parts,
                                                   DType dtype) override;
  std::string WhyNoFp8(uint32_t rows, uint32_t cols) const override {
    return linear_.WhyNoFp8(rows, cols);
  }
  Result<void> Reserve(const BackendLimits& limits) override;

  void BeginStep() override {
    timer_.Begin();
    attention_.BeginStep();
  }
  uint32_t PaddedBatch(uint32_t num_seqs) const override;
  // Where rows must not depend on how they were chunked, single tokens are not divided either.
  uint32_t FewTokens() const override { return options_.batch_invariant ? 1 : kFewTokens; }
  void RunRecorded(uint64_t key, const std::function<void()>& ops) override {
    if (options_.enforce_eager) return ops();
    graphs_.Run(key, ops);
  }

  void Embed(const EmbedParams& params) override { gpu::Embed(params, launch_); }
  void AddRmsNorm(const AddRmsNormParams& params) override { gpu::AddRmsNorm(params, launch_); }
  void Linear(const LinearParams& params) override { linear_.Run(params, launch_); }
  bool FusesLinear(uint32_t num_rows) const override { return linear_.Fuses(num_rows, shapes_); }
  bool FusesSiluMul(const LinearWeight& gate_up, uint32_t num_rows) const override {
    return linear_.FusesSiluMul(num_rows, static_cast<const GpuWeight&>(gate_up));
  }
  void RopeKvStore(const RopeKvStoreParams& params) override {
    host_saturated_ = params.num_saturated;
    gpu::RopeKvStore(params, saturated_.as<uint64_t>(), launch_);
  }
  bool FusesRope() const override { return attention_.FusesRope(); }
  void PagedAttention(const PagedAttentionParams& params) override {
    if (params.rope != nullptr) host_saturated_ = params.rope->num_saturated;
    attention_.Run(params, saturated_.as<uint64_t>(), launch_);
  }
  void SiluMul(const SiluMulParams& params) override { gpu::SiluMul(params, launch_); }
  void GatherRows(const GatherRowsParams& params) override { gpu::GatherRows(params, launch_); }
  bool has_experts() const override { return true; }
  void RouteExperts(const RouteExpertsParams& params) override { experts_.Route(params, launch_); }
  void ExpertLinear(const ExpertLinearParams& params) override { experts_.Linear(params, launch_); }
  void CombineExperts(const CombineExpertsParams& params) override {
    experts_.Combine(params, launch_);
  }
  void StartSample(const SampleParams& params) override {
    FetchSaturated();  // before the copies that FinishSample waits for
    sample_.Start(params, launch_);
    timer_.End();
  }
  void FinishSample(const SampleParams& params) override {
    sample_.Finish(params);
    timer_.Finished();
    AddSaturated();
  }
  DeviceTime device_time() const override { return timer_.total(); }
  const TokenId* sampled_tokens() const override { return sample_.token_ids(); }
  void Synchronize() override {
    FetchSaturated();
    KVS_GPU(StreamSynchronize(stream_));
    AddSaturated();
  }

 private:
  // The scales of an FP8 weight.
  Result<void> UploadScales(std::span<const HostMatrix> parts, GpuWeight& weight);

  struct Staging {
    void* pinned = nullptr;
    Event fetched{};  // the device has read `pinned`
  };

  // The device's count to pinned memory, and from there what is new of it to the model's counter.
  void FetchSaturated();
  void AddSaturated();

  const GpuBackendOptions options_;
  const DeviceFacts facts_;
  const Stream stream_;
  Launch launch_;
  Uploader uploader_;
  std::vector<Staging> staging_;
  uint32_t next_staging_ = 0;
  LinearOp linear_;
  AttentionOp attention_;
  SampleOp sample_;
  ExpertOps experts_;
  StepTimer timer_;
  GraphRecorder graphs_;
  std::vector<const GpuWeight*> shapes_;  // up to kWeightsOfShape of each shape
  uint32_t max_num_seqs_ = 0;
  DeviceBuffer saturated_;  // uint64 [1]
  uint64_t* host_saturated_ = nullptr;
  uint64_t* fetched_saturated_ = nullptr;  // pinned
  uint64_t num_saturated_added_ = 0;
};

void GpuBackend::CopyToDevice(void* device, const void* host, size_t bytes) {
  if (bytes > kStagingBytes) {
    KVS_GPU(StreamSynchronize(stream_));
    KVS_GPU(Memcpy(device, host, bytes, KVS_GPU_NAME(MemcpyHostToDevice)));
    return;
  }
  Staging& slot = staging_[next_staging_];
  next_staging_ = (next_staging_ + 1) % kStagingSlots;
  KVS_GPU(EventSynchronize(slot.fetched));
  std::memcpy(slot.pinned, host, bytes);
  KVS_GPU(MemcpyAsync(device, slot.pinned, bytes, KVS_GPU_NAME(MemcpyHostToDevice), stream_));
  KVS_GPU(EventRecord(slot.fetched, stream_));
}

Result<std::unique_ptr<LinearWeight>> GpuBackend::PackLinear(std::span<const HostMatrix> parts,
                                                             DType dtype) {
  if (dtype != options_.dtype && dtype != DType::kF8E4M3) {
    return kvs::Error(Code::kInvalidArgument,
                      "--dtype: weights as " + std::string(ToString(dtype)) +
                          " are not served on this device; expected bfloat16 or float16",
                      "--dtype");
  }
  auto weight = std::make_unique<GpuWeight>();
  weight->in_features = parts.front().cols;
  for (const HostMatrix& part : parts) weight->out_features += part.rows;
  weight->dtype = dtype;
  auto data =
      AllocateDevice(size_t{weight->out_features} * weight->in_features * SizeOf(dtype), "weights");
  if (!data) return tl::unexpected(data.error());
  weight->data = std::move(*data);
  auto* to = weight->data.as<std::byte>();
  for (const HostMatrix& part : parts) {
    const size_t count = size_t{part.rows} * part.cols;
    KVS_RETURN_IF_ERROR(uploader_.Upload(to, dtype, part.data, part.dtype, count));
    to += count * SizeOf(dtype);
  }
  if (dtype == DType::kF8E4M3) KVS_RETURN_IF_ERROR(UploadScales(parts, *weight));
  const auto same_shape = [&](const GpuWeight* other) {
    return other->dtype == weight->dtype && other->out_features == weight->out_features &&
           other->in_features == weight->in_features;
  };
  if (std::count_if(shapes_.begin(), shapes_.end(), same_shape) < kWeightsOfShape) {
    shapes_.push_back(weight.get());
  }
  return std::unique_ptr<LinearWeight>(std::move(weight));
}

Result<void> GpuBackend::UploadScales(std::span<const HostMatrix> parts, GpuWeight& weight) {
  std::vector<float> scales;
  const auto is_fixed = [](const HostMatrix& part) { return part.input_scale != 0.0f; };
  const bool fixed = std::all_of(parts.begin(), parts.end(), is_fixed);
  for (const HostMatrix& part : parts) {
    KVS_CHECK(part.dtype == DType::kF8E4M3);
    scales.insert(scales.end(), part.row_scales, part.row_scales + part.rows);
    if (fixed) weight.input_scale = std::max(weight.input_scale, part.input_scale);
  }
  auto buffer = AllocateDevice(scales.size() * sizeof(float), "weights");
  if (!buffer) return tl::unexpected(buffer.error());
  CopyToDevice(buffer->data(), scales.data(), buffer->bytes());
  weight.row_scales = *std::move(buffer);
  return {};
}

Result<void> GpuBackend::Reserve(const BackendLimits& limits) {
  uploader_.Release();
  max_num_seqs_ = limits.max_num_seqs;
  KVS_RETURN_IF_ERROR(attention_.Reserve(limits, facts_, options_.batch_invariant));
  KVS_RETURN_IF_ERROR(sample_.Reserve(limits));
  KVS_RETURN_IF_ERROR(experts_.Reserve(limits));
  std::vector<const GpuWeight*> inner, output;
  for (const GpuWeight* weight : shapes_) {
    (weight->out_features == limits.vocab_size ? output : inner).push_back(weight);
  }
  const auto max_rows = std::max(limits.max_num_batched_tokens, limits.max_num_logits_rows);
  KVS_RETURN_IF_ERROR(linear_.ReserveCodes(shapes_, max_rows));
  linear_.Tune(inner, limits.max_num_batched_tokens, false, stream_);
  linear_.Tune(output, limits.max_num_logits_rows, true, stream_);
  KVS_GPU(StreamSynchronize(stream_));
  return {};
}

// Steps of 1, 2, 4, then every 8 up to 256, then every 32: at most an eighth of the rows is padding
// where rows cost time.
uint32_t GpuBackend::PaddedBatch(uint32_t num_seqs) const {
  if (options_.enforce_eager) return num_seqs;
  uint32_t padded = num_seqs;
  if (num_seqs > 256) {
    padded = (num_seqs + 31) / 32 * 32;
  } else if (num_seqs > 4) {
    padded = (num_seqs + 7) / 8 * 8;
  } else if (num_seqs == 3) {
    padded = 4;
  }
  return std::min(padded, std::max(num_seqs, max_num_seqs_));
}

void GpuBackend::FetchSaturated() {
  KVS_GPU(MemcpyAsync(fetched_saturated_, saturated_.data(), sizeof(uint64_t),
                      KVS_GPU_NAME(MemcpyDeviceToHost), stream_));
}

void GpuBackend::AddSaturated() {
  const uint64_t now = *fetched_saturated_;
  if (host_saturated_ != nullptr) *host_saturated_ += now - num_saturated_added_;
  num_saturated_added_ = now;
}

}  // namespace

Result<std::unique_ptr<Backend>> OpenGpuBackend(const GpuBackendOptions& options) {
  if (options.dtype != DType::kBf16 && options.dtype != DType::kF16) {
    return kvs::Error(Code::kInvalidArgument,
                      "--dtype: got " + std::string(ToString(options.dtype)) +
                          ", but this device computes in bfloat16 or float16; choose one of them, "
                          "or use --device cpu",
                      "--dtype");
  }
  auto facts = ReadDeviceFacts(options.device_index);
  if (!facts) return tl::unexpected(facts.error());
  Stream stream;
  KVS_GPU(StreamCreateWithFlags(&stream, KVS_GPU_NAME(StreamNonBlocking)));
  auto backend = std::make_unique<GpuBackend>(options, *facts, stream);
  KVS_RETURN_IF_ERROR(backend->Init());
  return std::unique_ptr<Backend>(std::move(backend));
}

}  // namespace kvs::gpu
