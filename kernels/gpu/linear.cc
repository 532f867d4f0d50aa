#include "gpu/linear.h"

#include "gpu/gpu_memory.h"

namespace kvs::gpu {
namespace {

constexpr size_t kPartialsBytes = 16 << 20;
constexpr size_t kCountersBytes = kNumGemvCounters * sizeof(uint32_t);
constexpr size_t kBlasWorkspaceBytes = 32 << 20;

constexpr double kTuneBudgetMs = 200;  // of one call of Tune

// Above this many rows a library's kernel is at least as fast as streaming.
constexpr uint32_t kMaxStreamedRows = 8;

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
  if (options.batch_invariant) {
    why_no_blas_lt_ = "batch-invariant";
  } else {
    BlasLt::Options blas = {.act = options.act,
                            .workspace = bytes,
                            .workspace_bytes = kBlasWorkspaceBytes,
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

void LinearOp::Tune(std::span<const GpuWeight* const> weights, uint32_t max_rows, bool out_is_f32,
                    Stream stream) {
  if (blas_lt_ == nullptr || max_rows <= max_gemv_rows_) return;
  blas_lt_->Tune(weights,
                 {.min_rows = max_gemv_rows_ + 1,
                  .max_rows = max_rows,
                  .out_is_f32 = out_is_f32,
                  .budget_ms = kTuneBudgetMs},
                 stream);
}

void LinearOp::Run(const LinearParams& params, const Launch& launch) {
  if (params.num_rows == 0) return;
  if (params.num_rows <= max_gemv_rows_ && GemvServes(params, gemv_, facts_)) {
    Gemv(params, gemv_, launch);
  } else if (blas_lt_ != nullptr) {
    blas_lt_->Run(params, launch);
  } else {
    GemmTiled(params, launch);
  }
}

std::string LinearOp::Describe() const {
  const std::string rows = "gemv to " + std::to_string(max_gemv_rows_) + " rows, ";
  if (blas_lt_ != nullptr) return rows + blas_lt_->Describe() + " above";
  return rows + "tiled above (" + why_no_blas_lt_ + ")";
}

}  // namespace kvs::gpu
