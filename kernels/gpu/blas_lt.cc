#include "gpu/blas_lt.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <limits>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "gpu/blas_lt_cache.h"
#include "gpu/blas_lt_library.h"
#include "gpu/linear_kernels.h"
#include "gpu/timing.h"

namespace kvs::gpu {
namespace {

// cuBLASLt is column-major: out^T [out_features x rows] = op(W) x^T, with W stored as
// [in_features x out_features] and transposed.
struct Layouts {
  cublasLtMatrixLayoutOpaque_t weight, x, out;
};

struct Plan {
  BlasLtKind kind;
  Layouts layouts;
  cublasLtMatmulAlgo_t algo;
};

// What a product reads and writes. The scales are of FP8 alone.
struct Operands {
  const void* weight;
  const void* x;
  void* out;
  const void* row_scales = nullptr;
  const void* x_scales = nullptr;
};

// Of cuBLAS 12.9, by number so that older headers do. A vector of float32 scales the rows of a
// side.
constexpr auto kWeightScaleMode = static_cast<cublasLtMatmulDescAttributes_t>(31);
constexpr auto kXScaleMode = static_cast<cublasLtMatmulDescAttributes_t>(32);
constexpr int32_t kScalesOfRows = 3;

// Up to so many rows the library is faster where it does not scale, with a kernel that does so
// behind it.
constexpr uint32_t kMaxSumsRows = 128;

// Up to so many rows a shape that was not tuned has its bucket's kernel, which is loaded; with more
// of them the library's choice for just that number is worth the milliseconds of loading it.
constexpr uint32_t kMaxUntimedRows = 256;

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
  cublasLtMatmulDescOpaque_t product, fp8_product, fp8_sums;
  bool multiplies_fp8 = false;
  cublasLtMatmulPreferenceOpaque_t preference;
  std::string description;
  std::string cache_file;
  BlasLtAlgorithms tuned;
  BlasLtAlgorithms untimed;           // the library's first choice for what is not in `tuned`
  std::map<BlasLtShape, Plan> plans;  // by exact number of rows

  ~State() {
    if (handle != nullptr) api.Destroy(handle);
  }

  Result<void> Init();
  Layouts MakeLayouts(const BlasLtShape& shape) const;
  std::vector<cublasLtMatmulAlgo_t> Candidates(const BlasLtShape& shape, const Layouts& layouts,
                                               int count);
  // Of the shape's bucket; null where there is none.
  const cublasLtMatmulAlgo_t* KnownAlgorithm(const BlasLtShape& shape) const {
    for (const BlasLtAlgorithms* known : {&tuned, &untimed}) {
      const auto found = known->find(shape.Bucket());
      if (found != known->end()) return &found->second;
    }
    return nullptr;
  }
  const Plan& PlanOf(const BlasLtShape& shape);
  void InitFp8();
  const cublasLtMatmulDescOpaque_t& ProductOf(BlasLtKind kind) const {
    return kind == BlasLtKind::k16Bits ? product
           : kind == BlasLtKind::kFp8  ? fp8_product
                                       : fp8_sums;
  }
  BlasLtShape ShapeOf(const GpuWeight& weight, uint32_t num_rows, bool out_is_f32) const;
  cublasStatus_t Multiply(const Plan& plan, const Operands& operands, Stream stream) const;
  double TimeMs(const Plan& plan, std::span<const GpuWeight* const> weights, Operands operands,
                Stream stream) const;
  // By using it, so that no request waits for that.
  void LoadKernel(const BlasLtShape& shape, const GpuWeight& weight, Operands operands,
                  Stream stream);
  void TuneShape(const BlasLtShape& shape, std::span<const GpuWeight* const> weights,
                 const Operands& operands, Stream stream);
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
  InitFp8();
  description = "cuBLASLt " + VersionText(api.GetVersion());
  if (!options.cache_prefix.empty()) {
    cache_file = options.cache_prefix + "-" + std::to_string(api.GetVersion()) + ".txt";
    tuned = ReadBlasLtCache(cache_file);
  }
  return {};
}

BlasLtShape BlasLt::State::ShapeOf(const GpuWeight& weight, uint32_t num_rows,
                                   bool out_is_f32) const {
  BlasLtShape shape = {num_rows, weight.out_features, weight.in_features, out_is_f32};
  if (weight.dtype != DType::kF8E4M3) return shape;
  const size_t num_sums = size_t{std::bit_ceil(num_rows)} * weight.out_features;
  const bool few = num_rows <= kMaxSumsRows && num_sums <= options.num_sums;
  shape.kind = few ? BlasLtKind::kFp8Sums : BlasLtKind::kFp8;
  shape.out_is_f32 = out_is_f32 || few;
  return shape;
}

void BlasLt::State::InitFp8() {
  fp8_sums = product;
  constexpr int8_t kFast = 1;
  CheckStatus(
      api.MatmulDescSetAttribute(&fp8_sums, CUBLASLT_MATMUL_DESC_FAST_ACCUM, &kFast, sizeof kFast),
      "sums of FP8");
  fp8_product = fp8_sums;
  for (const auto mode : {kWeightScaleMode, kXScaleMode}) {
    if (api.MatmulDescSetAttribute(&fp8_product, mode, &kScalesOfRows, sizeof kScalesOfRows) !=
        CUBLAS_STATUS_SUCCESS) {
      return;
    }
  }
  // Without scales the library proposes nothing.
  const void* some_scales = options.workspace;
  for (const auto pointer :
       {CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER}) {
    CheckStatus(api.MatmulDescSetAttribute(&fp8_product, pointer, &some_scales, sizeof some_scales),
                "scales");
  }
  const BlasLtShape shape = {256, 1024, 1024, false, BlasLtKind::kFp8};
  multiplies_fp8 = !Candidates(shape, MakeLayouts(shape), 1).empty();
}

Layouts BlasLt::State::MakeLayouts(const BlasLtShape& shape) const {
  const cudaDataType_t act = options.act == DType::kF16 ? CUDA_R_16F : CUDA_R_16BF;
  const cudaDataType_t in = shape.kind == BlasLtKind::k16Bits ? act : CUDA_R_8F_E4M3;
  Layouts layouts;
  const auto init = [&](cublasLtMatrixLayoutOpaque_t& layout, cudaDataType_t type, uint64_t rows,
                        uint64_t columns) {
    CheckStatus(api.MatrixLayoutInit(&layout, sizeof layout, type, rows, columns,
                                     static_cast<int64_t>(rows)),
                "layout");
  };
  init(layouts.weight, in, shape.in_features, shape.out_features);
  init(layouts.x, in, shape.in_features, shape.num_rows);
  init(layouts.out, shape.out_is_f32 ? CUDA_R_32F : act, shape.out_features, shape.num_rows);
  return layouts;
}

// The library's proposals, the most promising first.
std::vector<cublasLtMatmulAlgo_t> BlasLt::State::Candidates(const BlasLtShape& shape,
                                                            const Layouts& layouts, int count) {
  std::vector<cublasLtMatmulHeuristicResult_t> results(static_cast<size_t>(count));
  auto sides = layouts;
  auto desc = ProductOf(shape.kind);
  int found = 0;
  const auto status =
      api.MatmulAlgoGetHeuristic(handle, &desc, &sides.weight, &sides.x, &sides.out, &sides.out,
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
  Plan plan = {.kind = shape.kind, .layouts = MakeLayouts(shape), .algo = {}};
  auto desc = ProductOf(shape.kind);
  const cublasLtMatmulAlgo_t* algo = KnownAlgorithm(shape);
  cublasLtMatmulHeuristicResult_t result;
  if (algo != nullptr &&
      api.MatmulAlgoCheck(handle, &desc, &plan.layouts.weight, &plan.layouts.x, &plan.layouts.out,
                          &plan.layouts.out, algo, &result) == CUBLAS_STATUS_SUCCESS &&
      result.workspaceSize <= options.workspace_bytes) {
    plan.algo = *algo;
  } else {
    const auto candidates = Candidates(shape, plan.layouts, 1);
    CheckStatus(candidates.empty() ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS,
                "no algorithm for a linear layer");
    plan.algo = candidates[0];
  }
  return plans.emplace(shape, plan).first->second;
}

cublasStatus_t BlasLt::State::Multiply(const Plan& plan, const Operands& operands,
                                       Stream stream) const {
  constexpr float kOne = 1, kZero = 0;
  auto layouts = plan.layouts;
  auto desc = ProductOf(plan.kind);
  if (plan.kind == BlasLtKind::kFp8) {
    const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const void* scales) {
      CheckStatus(api.MatmulDescSetAttribute(&desc, attribute, &scales, sizeof scales), "scales");
    };
    set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, operands.row_scales);
    set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, operands.x_scales);
  }
  return api.Matmul(handle, &desc, &kOne, operands.weight, &layouts.weight, operands.x, &layouts.x,
                    &kZero, operands.out, &layouts.out, operands.out, &layouts.out, &plan.algo,
                    options.workspace, options.workspace_bytes, stream);
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

bool BlasLt::MultipliesFp8() { return state_->multiplies_fp8; }

void BlasLt::Run(const LinearParams& params, const Launch& launch, const QuantizedRows* quantized) {
  const auto& weight = static_cast<const GpuWeight&>(*params.weight);
  const bool is_fp8 = weight.dtype == DType::kF8E4M3;
  KVS_CHECK(is_fp8 ? quantized != nullptr : weight.dtype == state_->options.act);
  const Plan& plan = state_->PlanOf(state_->ShapeOf(weight, params.num_rows, params.out_is_f32));
  const bool sums = plan.kind == BlasLtKind::kFp8Sums;
  Operands operands = {weight.data.data(), params.x, params.out};
  if (is_fp8) {
    operands.x = quantized->codes;
    operands.row_scales = weight.row_scales.data();
    operands.x_scales = quantized->scales;
  }
  if (sums) operands.out = state_->options.sums;
  CheckStatus(state_->Multiply(plan, operands, launch.stream), "a linear layer");
  if (sums) ScaleSums(params, state_->options.sums, *quantized, launch);
}

namespace {

constexpr size_t kMaxWeightsInTurn = 4;
constexpr uint32_t kManyRows = 512;  // from here on the weights' place in a cache does not matter

}  // namespace

// Of one pass over `weights`; infinite when the library refuses.
double BlasLt::State::TimeMs(const Plan& plan, std::span<const GpuWeight* const> weights,
                             Operands operands, Stream stream) const {
  return BestMs(stream, [&] {
    return std::all_of(weights.begin(), weights.end(), [&](const GpuWeight* weight) {
      operands.weight = weight->data.data();
      operands.row_scales = weight->row_scales.data();
      return Multiply(plan, operands, stream) == CUBLAS_STATUS_SUCCESS;
    });
  });
}

void BlasLt::State::LoadKernel(const BlasLtShape& shape, const GpuWeight& weight, Operands operands,
                               Stream stream) {
  operands.weight = weight.data.data();
  operands.row_scales = weight.row_scales.data();
  if (tuned.contains(shape)) {
    return CheckStatus(Multiply(PlanOf(shape), operands, stream), "a tuned product");
  }
  Plan plan = {.kind = shape.kind, .layouts = MakeLayouts(shape), .algo = {}};
  const auto candidates = Candidates(shape, plan.layouts, 1);
  if (candidates.empty()) return;  // another kernel serves it, or its first use fails
  plan.algo = candidates[0];
  const bool runs = Multiply(plan, operands, stream) == CUBLAS_STATUS_SUCCESS;
  if (runs && shape.num_rows <= kMaxUntimedRows) untimed[shape] = plan.algo;
}

void BlasLt::State::TuneShape(const BlasLtShape& shape, std::span<const GpuWeight* const> weights,
                              const Operands& operands, Stream stream) {
  const bool many_rows = shape.num_rows >= kManyRows;
  const auto in_turn = weights.first(many_rows ? 1 : std::min(weights.size(), kMaxWeightsInTurn));
  Plan plan = {.kind = shape.kind, .layouts = MakeLayouts(shape), .algo = {}};
  double best_ms = std::numeric_limits<double>::infinity();
  for (const auto& algo : Candidates(shape, plan.layouts, many_rows ? 4 : 8)) {
    plan.algo = algo;
    const double ms = TimeMs(plan, in_turn, operands, stream);
    if (ms >= best_ms) continue;
    best_ms = ms;
    tuned[shape] = algo;
  }
}

void BlasLt::Tune(std::span<const GpuWeight* const> weights, const TuneOptions& options,
                  Stream stream) {
  using Kind = std::tuple<uint32_t, uint32_t, bool>;  // out_features, in_features, FP8
  std::map<Kind, std::vector<const GpuWeight*>> by_shape;
  size_t x_columns = 0, out_columns = 0;
  for (const GpuWeight* weight : weights) {
    const bool is_fp8 = weight->dtype == DType::kF8E4M3;
    by_shape[{weight->out_features, weight->in_features, is_fp8}].push_back(weight);
    x_columns = std::max<size_t>(x_columns, weight->in_features);
    out_columns = std::max<size_t>(out_columns, weight->out_features);
  }
  const size_t max_rows = std::ranges::max(options.row_counts);
  const Scratch x(max_rows * x_columns * 2), x_scales(max_rows * sizeof(float));
  const Scratch out(max_rows * out_columns * (options.out_is_f32 ? 4 : 2));
  if (x.data() == nullptr || x_scales.data() == nullptr || out.data() == nullptr) return;
  const auto operands_of = [&](const BlasLtShape& shape) {
    const bool sums = shape.kind == BlasLtKind::kFp8Sums;
    return Operands{nullptr, x.data(), sums ? state_->options.sums : out.data(), nullptr,
                    x_scales.data()};
  };
  bool changed = false;
  const auto start = std::chrono::steady_clock::now();
  for (const uint32_t rows : options.row_counts) {
    for (const auto& [kind, same_shape] : by_shape) {
      const BlasLtShape shape = state_->ShapeOf(*same_shape[0], rows, options.out_is_f32);
      const std::chrono::duration<double, std::milli> spent =
          std::chrono::steady_clock::now() - start;
      if (!state_->tuned.contains(shape) && spent.count() <= options.budget_ms) {
        state_->TuneShape(shape, same_shape, operands_of(shape), stream);
        changed = true;
      } else {
        state_->LoadKernel(shape, *same_shape[0], operands_of(shape), stream);
      }
    }
  }
  state_->plans.clear();
  if (changed && !state_->cache_file.empty()) {
    WriteBlasLtCache(state_->cache_file, state_->tuned);
  }
}

}  // namespace kvs::gpu
