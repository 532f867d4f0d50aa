#include "gpu/blas_lt.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include "gpu/blas_lt_cache.h"
#include "gpu/blas_lt_library.h"
#include "gpu/timing.h"

namespace kvs::gpu {
namespace {

// cuBLASLt is column-major: out^T [out_features x rows] = op(W) x^T, with W stored as
// [in_features x out_features] and transposed.
struct Layouts {
  cublasLtMatrixLayoutOpaque_t weight, x, out;
};

struct Plan {
  Layouts layouts;
  cublasLtMatmulAlgo_t algo;
};

void CheckStatus(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  std::fprintf(stderr, "cuBLASLt: %s: status %d\n", what, static_cast<int>(status));
  std::fflush(stderr);
  std::abort();
}

std::string VersionText(size_t version) {
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

}  // namespace

struct BlasLt::State {
  Options options;
  BlasLtLibrary api;
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDescOpaque_t product;
  cublasLtMatmulPreferenceOpaque_t preference;
  std::string description;
  std::string cache_file;
  BlasLtAlgorithms tuned;
  std::map<BlasLtShape, Plan> plans;  // by exact number of rows

  ~State() {
    if (handle != nullptr) api.Destroy(handle);
  }

  Result<void> Init();
  Layouts MakeLayouts(const BlasLtShape& shape) const;
  std::vector<cublasLtMatmulAlgo_t> Candidates(const Layouts& layouts, int count);
  const Plan& PlanOf(const BlasLtShape& shape);
  cublasStatus_t Multiply(const Plan& plan, const void* weight, const void* x, void* out,
                          Stream stream) const;
  double TimeMs(const Plan& plan, std::span<const GpuWeight* const> weights, const void* x,
                void* out, Stream stream) const;
  void TuneShape(const BlasLtShape& shape, std::span<const GpuWeight* const> weights, const void* x,
                 void* out, Stream stream);
};

Result<void> BlasLt::State::Init() {
  if (api.Create(&handle) != CUBLAS_STATUS_SUCCESS) {
    return kvs::Error(Code::kUnavailable, "cuBLASLt cannot be initialized");
  }
  CheckStatus(api.MatmulDescInit(&product, sizeof product, CUBLAS_COMPUTE_32F, CUDA_R_32F),
              "description of a product");
  const cublasOperation_t transposed = CUBLAS_OP_T;
  CheckStatus(api.MatmulDescSetAttribute(&product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                         sizeof transposed),
              "transposition");
  CheckStatus(api.MatmulPreferenceInit(&preference, sizeof preference), "preference");
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    CheckStatus(api.MatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof value),
                "preference");
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{options.workspace_bytes});
  constexpr uint32_t kAlignment = 16;
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, kAlignment);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, kAlignment);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, kAlignment);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, kAlignment);
  description = "cuBLASLt " + VersionText(api.GetVersion());
  if (!options.cache_prefix.empty()) {
    cache_file = options.cache_prefix + "-" + std::to_string(api.GetVersion()) + ".txt";
    tuned = ReadBlasLtCache(cache_file);
  }
  return {};
}

Layouts BlasLt::State::MakeLayouts(const BlasLtShape& shape) const {
  const cudaDataType_t act = options.act == DType::kF16 ? CUDA_R_16F : CUDA_R_16BF;
  Layouts layouts;
  const auto init = [&](cublasLtMatrixLayoutOpaque_t& layout, cudaDataType_t type, uint64_t rows,
                        uint64_t columns) {
    CheckStatus(api.MatrixLayoutInit(&layout, sizeof layout, type, rows, columns,
                                     static_cast<int64_t>(rows)),
                "layout");
  };
  init(layouts.weight, act, shape.in_features, shape.out_features);
  init(layouts.x, act, shape.in_features, shape.num_rows);
  init(layouts.out, shape.out_is_f32 ? CUDA_R_32F : act, shape.out_features, shape.num_rows);
  return layouts;
}

// The library's proposals, the most promising first.
std::vector<cublasLtMatmulAlgo_t> BlasLt::State::Candidates(const Layouts& layouts, int count) {
  std::vector<cublasLtMatmulHeuristicResult_t> results(static_cast<size_t>(count));
  auto sides = layouts;
  int found = 0;
  const auto status =
      api.MatmulAlgoGetHeuristic(handle, &product, &sides.weight, &sides.x, &sides.out, &sides.out,
                                 &preference, count, results.data(), &found);
  std::vector<cublasLtMatmulAlgo_t> algos;
  for (int i = 0; status == CUBLAS_STATUS_SUCCESS && i < found; ++i) {
    const auto& result = results[static_cast<size_t>(i)];
    if (result.state == CUBLAS_STATUS_SUCCESS) algos.push_back(result.algo);
  }
  return algos;
}

const Plan& BlasLt::State::PlanOf(const BlasLtShape& shape) {
  const auto found = plans.find(shape);
  if (found != plans.end()) return found->second;
  Plan plan = {.layouts = MakeLayouts(shape), .algo = {}};
  const auto algo = tuned.find(shape.Bucket());
  cublasLtMatmulHeuristicResult_t result;
  if (algo != tuned.end() &&
      api.MatmulAlgoCheck(handle, &product, &plan.layouts.weight, &plan.layouts.x,
                          &plan.layouts.out, &plan.layouts.out, &algo->second,
                          &result) == CUBLAS_STATUS_SUCCESS &&
      result.workspaceSize <= options.workspace_bytes) {
    plan.algo = algo->second;
  } else {
    const auto candidates = Candidates(plan.layouts, 1);
    CheckStatus(candidates.empty() ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS,
                "no algorithm for a linear layer");
    plan.algo = candidates[0];
  }
  return plans.emplace(shape, plan).first->second;
}

cublasStatus_t BlasLt::State::Multiply(const Plan& plan, const void* weight, const void* x,
                                       void* out, Stream stream) const {
  constexpr float kOne = 1, kZero = 0;
  auto layouts = plan.layouts;
  auto desc = product;
  return api.Matmul(handle, &desc, &kOne, weight, &layouts.weight, x, &layouts.x, &kZero, out,
                    &layouts.out, out, &layouts.out, &plan.algo, options.workspace,
                    options.workspace_bytes, stream);
}

BlasLt::BlasLt(std::unique_ptr<State> state) : state_(std::move(state)) {}
BlasLt::~BlasLt() = default;

Result<std::unique_ptr<BlasLt>> BlasLt::Open(const Options& options) {
  auto api = OpenBlasLt();
  if (!api) return tl::unexpected(api.error());
  auto state = std::make_unique<State>();
  state->options = options;
  state->api = *api;
  KVS_RETURN_IF_ERROR(state->Init());
  return std::unique_ptr<BlasLt>(new BlasLt(std::move(state)));
}

const std::string& BlasLt::Describe() const { return state_->description; }

void BlasLt::Run(const LinearParams& params, const Launch& launch) {
  const auto& weight = static_cast<const GpuWeight&>(*params.weight);
  KVS_CHECK(weight.dtype == state_->options.act);
  const Plan& plan = state_->PlanOf({.num_rows = params.num_rows,
                                     .out_features = weight.out_features,
                                     .in_features = weight.in_features,
                                     .out_is_f32 = params.out_is_f32});
  CheckStatus(state_->Multiply(plan, weight.data.data(), params.x, params.out, launch.stream),
              "a linear layer");
}

namespace {

constexpr size_t kMaxWeightsInTurn = 4;
constexpr uint32_t kManyRows = 512;  // from here on the weights' place in a cache does not matter

}  // namespace

// Of one pass over `weights`; infinite when the library refuses.
double BlasLt::State::TimeMs(const Plan& plan, std::span<const GpuWeight* const> weights,
                             const void* x, void* out, Stream stream) const {
  return BestMs(stream, [&] {
    return std::all_of(weights.begin(), weights.end(), [&](const GpuWeight* weight) {
      return Multiply(plan, weight->data.data(), x, out, stream) == CUBLAS_STATUS_SUCCESS;
    });
  });
}

void BlasLt::State::TuneShape(const BlasLtShape& shape, std::span<const GpuWeight* const> weights,
                              const void* x, void* out, Stream stream) {
  const bool many_rows = shape.num_rows >= kManyRows;
  const auto in_turn = weights.first(many_rows ? 1 : std::min(weights.size(), kMaxWeightsInTurn));
  Plan plan = {.layouts = MakeLayouts(shape), .algo = {}};
  double best_ms = std::numeric_limits<double>::infinity();
  for (const auto& algo : Candidates(plan.layouts, many_rows ? 4 : 8)) {
    plan.algo = algo;
    const double ms = TimeMs(plan, in_turn, x, out, stream);
    if (ms >= best_ms) continue;
    best_ms = ms;
    tuned[shape] = algo;
  }
}

void BlasLt::Tune(std::span<const GpuWeight* const> weights, const TuneOptions& options,
                  Stream stream) {
  std::map<std::pair<uint32_t, uint32_t>, std::vector<const GpuWeight*>> by_shape;
  size_t x_columns = 0, out_columns = 0;
  for (const GpuWeight* weight : weights) {
    by_shape[{weight->out_features, weight->in_features}].push_back(weight);
    x_columns = std::max<size_t>(x_columns, weight->in_features);
    out_columns = std::max<size_t>(out_columns, weight->out_features);
  }
  const size_t max_rows = std::bit_ceil(options.max_rows);
  const Scratch x(max_rows * x_columns * 2);
  const Scratch out(max_rows * out_columns * (options.out_is_f32 ? 4 : 2));
  if (x.data() == nullptr || out.data() == nullptr) return;
  bool changed = false;
  const auto start = std::chrono::steady_clock::now();
  for (uint32_t rows = std::bit_ceil(options.min_rows); rows <= max_rows; rows *= 2) {
    for (const auto& [features, same_shape] : by_shape) {
      const BlasLtShape shape = {rows, features.first, features.second, options.out_is_f32};
      const std::chrono::duration<double, std::milli> spent =
          std::chrono::steady_clock::now() - start;
      if (state_->tuned.contains(shape) || spent.count() > options.budget_ms) continue;
      state_->TuneShape(shape, same_shape, x.data(), out.data(), stream);
      changed = true;
    }
  }
  state_->plans.clear();
  if (changed && !state_->cache_file.empty()) {
    WriteBlasLtCache(state_->cache_file, state_->tuned);
  }
}

}  // namespace kvs::gpu
