#include "gpu/linear.h"

#include <algorithm>
#include <bit>
#include <map>
#include <utility>
#include <vector>

#include "gpu/gpu_memory.h"
#include "gpu/timing.h"

namespace kvs::gpu {
namespace {

constexpr size_t kPartialsBytes = 16 << 20;
constexpr size_t kCountersBytes = kNumGemvCounters * sizeof(uint32_t);
constexpr size_t kBlasWorkspaceBytes = 32 << 20;

constexpr double kTuneBudgetMs = 200;  // of one call of Tune

// Above this many rows a library's kernel is at least as fast as Gemv.
constexpr uint32_t kMaxStreamedRows = 8;
static_assert(kMaxStreamedRows == kMaxStreamRows && kMaxStreamedRows <= kMaxGemvRows);

// Above this many rows a library's kernels and ops of their own are faster than fused ones.
constexpr uint32_t kMaxFusedRows = 2;
static_assert(kMaxFusedRows <= kMaxQuantizingRows);

// A name that is a file's: letters, digits and dots.
std::string FileName(std::string text) {
  for (char& c : text) {
    const bool keep = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                      c == '.' || c == '_';
    if (!keep) c = '-';
  }
  return text;
}

}  // namespace

LinearOp::~LinearOp() = default;

Result<void> LinearOp::Reserve(const LinearOptions& options, const DeviceFacts& facts) {
  KVS_CHECK(memory_.data() == nullptr);
  options_ = options;
  facts_ = facts;
  auto memory = AllocateDevice(kBlasWorkspaceBytes + kPartialsBytes + kCountersBytes,
                               "scratch of the linear layers");
  if (!memory) return tl::unexpected(memory.error());
  memory_ = *std::move(memory);
  auto* bytes = memory_.as<std::byte>();
  gemv_.partials = reinterpret_cast<float*>(bytes + kBlasWorkspaceBytes);
  gemv_.num_partials = kPartialsBytes / sizeof(float);
  gemv_.counters = reinterpret_cast<uint32_t*>(bytes + kBlasWorkspaceBytes + kPartialsBytes);
  PrepareGemv(facts);
  PrepareGemmTiled(facts);
  PrepareStreamGemv(facts);
  PrepareStreamGemm(facts);
  if (options.batch_invariant) {
    why_no_blas_lt_ = "batch-invariant";
  } else {
    BlasLt::Options blas = {.act = options.act,
                            .workspace = bytes,
                            .workspace_bytes = kBlasWorkspaceBytes,
                            .sums = gemv_.partials,
                            .num_sums = gemv_.num_partials,
                            .cache_prefix = {}};
    if (!options.cache_dir.empty()) {
      blas.cache_prefix = options.cache_dir + "/gemm-" + FileName(facts.name) + "-" +
                          std::string(ToString(options.act));
    }
    auto opened = BlasLt::Open(blas);
    if (opened) {
      blas_lt_ = *std::move(opened);
    } else {
      why_no_blas_lt_ = opened.error().message();
    }
  }
  max_gemv_rows_ = blas_lt_ != nullptr ? kMaxStreamedRows : kMaxGemvRows;
  return {};
}

std::string LinearOp::WhyNoFp8(uint32_t rows, uint32_t cols) const {
  if (options_.batch_invariant) return "--batch-invariant multiplies 16 bits alone";
  if (facts_.major != 9) return "FP8 is multiplied on devices of compute capability 9.0";
  if (blas_lt_ == nullptr) return why_no_blas_lt_;
  if (!blas_lt_->MultipliesFp8()) return blas_lt_->Describe() + " scales no rows of FP8";
  if (rows % 16 != 0 || cols % 64 != 0) return "their sides are no multiples of 16 and 64";
  return "";
}

Result<void> LinearOp::ReserveCodes(std::span<const GpuWeight* const> weights, uint32_t max_rows) {
  size_t columns = 0;
  for (const GpuWeight* weight : weights) {
    if (weight->dtype == DType::kF8E4M3) columns = std::max<size_t>(columns, weight->in_features);
  }
  if (columns == 0) return {};
  for (const auto& [buffer, bytes] :
       {std::pair{&codes_, max_rows * columns}, {&code_scales_, max_rows * sizeof(float)}}) {
    auto memory = AllocateDevice(bytes, "FP8 activations");
    if (!memory) return tl::unexpected(memory.error());
    *buffer = *std::move(memory);
  }
  return {};
}

LinearOp::Shape LinearOp::Bucket(const LinearParams& params) {
  return {std::bit_ceil(params.num_rows), params.weight->out_features, params.weight->in_features,
          params.out_is_f32};
}

bool LinearOp::IsLibraryFaster(std::span<const GpuWeight* const> weights, LinearParams params,
                               Stream stream) {
  const Launch launch = {stream, options_.act, &facts_, facts_.major >= 9};
  const auto time = [&](auto&& run) {
    return BestMs(stream, [&] {
      for (const GpuWeight* weight : weights) {
        params.weight = weight;
        if (!run()) return false;
      }
      return true;
    });
  };
  const double own_ms = time([&] { return RunStreaming(params, launch); });
  const double library_ms = time([&] {
    blas_lt_->Run(params, launch);
    return true;
  });
  return library_ms < own_ms;
}

void LinearOp::Tune(std::span<const GpuWeight* const> weights, uint32_t max_rows, bool out_is_f32,
                    Stream stream) {
  if (blas_lt_ == nullptr) return;
  const uint32_t last = std::bit_ceil(max_rows);
  std::vector<uint32_t> row_counts;
  for (uint32_t rows = 2 * kMaxStreamedRows; rows <= last; rows *= 2) row_counts.push_back(rows);
  for (uint32_t rows = std::min(kMaxStreamedRows, last); rows > 0; rows /= 2) {
    row_counts.push_back(rows);  // last, as they hardly ever go to the library
  }
  blas_lt_->Tune(weights,
                 {.row_counts = row_counts, .out_is_f32 = out_is_f32, .budget_ms = kTuneBudgetMs},
                 stream);
  std::map<std::pair<uint32_t, uint32_t>, std::vector<const GpuWeight*>> by_shape;
  size_t x_columns = 0, out_columns = 0;
  for (const GpuWeight* weight : weights) {
    if (weight->dtype == DType::kF8E4M3) continue;  // streams halve the bytes: always faster
    by_shape[{weight->out_features, weight->in_features}].push_back(weight);
    x_columns = std::max<size_t>(x_columns, weight->in_features);
    out_columns = std::max<size_t>(out_columns, weight->out_features);
  }
  const uint32_t last_streamed = std::min(last, MaxOwnRows());
  const Scratch x(last_streamed * x_columns * 2), out(last_streamed * out_columns * 4);
  if (x.data() == nullptr || out.data() == nullptr) return;
  for (uint32_t rows = 1; rows <= last_streamed; rows *= 2) {
    for (const auto& [features, same_shape] : by_shape) {
      const LinearParams params = {x.data(), same_shape[0], out.data(), rows, out_is_f32};
      if (IsLibraryFaster(same_shape, params, stream)) library_is_faster_.insert(Bucket(params));
    }
  }
}

uint32_t LinearOp::MaxOwnRows() const {
  return facts_.major == 9 && !options_.batch_invariant ? kMaxStreamGemmRows : max_gemv_rows_;
}

bool LinearOp::Fuses(uint32_t num_rows, std::span<const GpuWeight* const> weights) const {
  return !options_.batch_invariant && num_rows <= kMaxFusedRows &&
         std::all_of(weights.begin(), weights.end(), [&](const GpuWeight* weight) {
           return StreamGemvServes({nullptr, weight, nullptr, num_rows, false}, facts_);
         });
}

bool LinearOp::FusesSiluMul(uint32_t num_rows, const GpuWeight& weight) const {
  const LinearParams params = {nullptr, &weight, nullptr, num_rows,
                               false,   nullptr, 0,       LinearFinish::kSiluMul};
  if (options_.batch_invariant) return false;
  return StreamGemmServes(params, facts_) && !library_is_faster_.contains(Bucket(params));
}

bool LinearOp::RunStreaming(const LinearParams& params, const Launch& launch) {
  if (StreamGemvServes(params, facts_)) {
    StreamGemv(params, launch);
    return true;
  }
  if (!options_.batch_invariant && StreamGemmServes(params, facts_)) {
    StreamGemm(params, launch);
    return true;
  }
  if (params.num_rows > max_gemv_rows_ || !GemvServes(params, gemv_, facts_)) return false;
  Gemv(params, gemv_, launch);
  return true;
}

void LinearOp::RunFp8(const LinearParams& params, const Launch& launch) {
  const bool streams = params.num_rows <= kMaxStreamedRows && StreamGemvServes(params, facts_);
  if (streams && params.num_rows <= kMaxQuantizingRows) return StreamGemv(params, launch);
  const QuantizedRows quantized = {codes_.as<uint8_t>(), code_scales_.as<float>()};
  KVS_CHECK_OP(size_t{params.num_rows} * params.weight->in_features, <=, codes_.bytes());
  QuantizeRows(params, quantized, launch);
  if (streams) return StreamGemv(params, launch, &quantized);
  blas_lt_->Run(params, launch, &quantized);
}

void LinearOp::Run(const LinearParams& params, const Launch& launch) {
  if (params.num_rows == 0) return;
  if (params.weight->dtype == DType::kF8E4M3) return RunFp8(params, launch);
  if (params.norm_weight != nullptr) return StreamGemv(params, launch);
  if (params.finish != LinearFinish::kStore) {
    KVS_CHECK(RunStreaming(params, launch));
    return;
  }
  if (!library_is_faster_.contains(Bucket(params)) && RunStreaming(params, launch)) return;
  if (blas_lt_ != nullptr) {
    blas_lt_->Run(params, launch);
  } else {
    GemmTiled(params, launch);
  }
}

std::string LinearOp::Describe() const {
  const std::string rows = std::to_string(MaxOwnRows()) + " rows";
  if (blas_lt_ != nullptr) return "own to " + rows + " where faster, " + blas_lt_->Describe();
  return "own to " + rows + ", tiled above (" + why_no_blas_lt_ + ")";
}

}  // namespace kvs::gpu
