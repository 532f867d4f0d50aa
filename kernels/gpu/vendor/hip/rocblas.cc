// BlasLt (gpu/blas_lt.h) on AMD: rocBLAS, opened at run time, which itself hands over to hipBLASLt
// where that is faster. Prototypes and values: rocblas.h, the same from ROCm 5 to 7.
#include <dlfcn.h>

#include <array>

#include "gpu/blas_lt.h"

namespace kvs::gpu {
namespace {

constexpr int kNone = 111, kTransposed = 112;                   // rocblas_operation
constexpr int kTypeF16 = 150, kTypeF32 = 151, kTypeBf16 = 168;  // rocblas_datatype

struct Library {
  int (*Create)(void** handle);
  int (*Destroy)(void* handle);
  int (*SetStream)(void* handle, Stream stream);
  int (*SetWorkspace)(void* handle, void* data, size_t bytes);
  int (*VersionString)(char* text, size_t size);
  // d = alpha * op(a) * op(b) + beta * c, column-major; m, n, k and leading dimensions in elements.
  int (*GemmEx)(void* handle, int op_a, int op_b, int m, int n, int k, const void* alpha,
                const void* a, int a_type, int lda, const void* b, int b_type, int ldb,
                const void* beta, const void* c, int c_type, int ldc, void* d, int d_type, int ldd,
                int compute_type, int algo, int32_t solution, uint32_t flags);
};

constexpr std::array<const char*, 5> kNames = {
    "librocblas.so.5", "librocblas.so.4", "librocblas.so.3", "librocblas.so.0", "librocblas.so"};

template <class F>
bool Find(void* library, const char* name, F*& out) {
  out = reinterpret_cast<F*>(dlsym(library, name));
  return out != nullptr;
}

Result<Library> OpenLibrary() {
  void* library = nullptr;
  for (const char* name : kNames) {
    if (library == nullptr) library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  }
  if (library == nullptr) {
    return kvs::Error(Code::kUnavailable,
                      "no librocblas.so.{5,4,3,0} where the system looks for libraries");
  }
  Library out;
  const bool complete = Find(library, "rocblas_create_handle", out.Create) &&
                        Find(library, "rocblas_destroy_handle", out.Destroy) &&
                        Find(library, "rocblas_set_stream", out.SetStream) &&
                        Find(library, "rocblas_set_workspace", out.SetWorkspace) &&
                        Find(library, "rocblas_get_version_string", out.VersionString) &&
                        Find(library, "rocblas_gemm_ex", out.GemmEx);
  if (!complete) {
    return kvs::Error(Code::kUnavailable,
                      "librocblas lacks a function; ROCm 5.2 or newer is needed");
  }
  return out;
}

void CheckStatus(int status, const char* what) {
  if (status == 0) return;
  std::fprintf(stderr, "rocBLAS: %s: status %d\n", what, status);
  std::fflush(stderr);
  std::abort();
}

}  // namespace

struct BlasLt::State {
  Options options;
  Library api;
  void* handle = nullptr;
  std::string description;

  ~State() {
    if (handle != nullptr) api.Destroy(handle);
  }
};

BlasLt::BlasLt(std::unique_ptr<State> state) : state_(std::move(state)) {}
BlasLt::~BlasLt() = default;

Result<std::unique_ptr<BlasLt>> BlasLt::Open(const Options& options) {
  auto api = OpenLibrary();
  if (!api) return tl::unexpected(api.error());
  auto state = std::make_unique<State>();
  state->options = options;
  state->api = *api;
  if (state->api.Create(&state->handle) != 0) {
    return kvs::Error(Code::kUnavailable, "rocBLAS cannot be initialized on this device");
  }
  CheckStatus(state->api.SetWorkspace(state->handle, options.workspace, options.workspace_bytes),
              "workspace");
  char version[64] = {};
  state->api.VersionString(version, sizeof version - 1);
  state->description = std::string("rocBLAS ") + version;
  return std::unique_ptr<BlasLt>(new BlasLt(std::move(state)));
}

const std::string& BlasLt::Describe() const { return state_->description; }

// rocBLAS chooses by tables made ahead of time.
void BlasLt::Tune(std::span<const GpuWeight* const>, const TuneOptions&, Stream) {}

bool BlasLt::MultipliesFp8() { return false; }

void BlasLt::Run(const LinearParams& params, const Launch& launch, const QuantizedRows*) {
  // As rocBLAS sees it: out^T [out_features x rows] = W x^T, with W stored transposed.
  const auto& weight = static_cast<const GpuWeight&>(*params.weight);
  const int act = state_->options.act == DType::kF16 ? kTypeF16 : kTypeBf16;
  const int out = params.out_is_f32 ? kTypeF32 : act;
  const int m = static_cast<int>(weight.out_features), n = static_cast<int>(params.num_rows);
  const int k = static_cast<int>(weight.in_features);
  constexpr float kOne = 1, kZero = 0;
  CheckStatus(state_->api.SetStream(state_->handle, launch.stream), "stream");
  CheckStatus(state_->api.GemmEx(state_->handle, kTransposed, kNone, m, n, k, &kOne,
                                 weight.data.data(), act, k, params.x, act, k, &kZero, params.out,
                                 out, m, params.out, out, m, kTypeF32, 0, 0, 0),
              "product");
}

}  // namespace kvs::gpu
