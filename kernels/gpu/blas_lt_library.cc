#include "gpu/blas_lt_library.h"

#include <dlfcn.h>

#include <string>
#include <vector>

namespace kvs::gpu {
namespace {

constexpr const char* kToolkitFolder = "/usr/local/cuda/lib64/";

// The folder of the shared library (or executable) that holds this code, with a slash at its end.
std::string OwnFolder() {
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&OpenBlasLt), &info) == 0) return {};
  const std::string path = info.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? std::string() : path.substr(0, slash + 1);
}

template <class Function>
bool Bind(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

bool BindAll(void* library, BlasLtLibrary& api) {
  return Bind(library, "cublasLtCreate", api.Create) &&
         Bind(library, "cublasLtDestroy", api.Destroy) &&
         Bind(library, "cublasLtGetVersion", api.GetVersion) &&
         Bind(library, "cublasLtMatmul", api.Matmul) &&
         Bind(library, "cublasLtMatmulAlgoCheck", api.MatmulAlgoCheck) &&
         Bind(library, "cublasLtMatmulAlgoGetHeuristic", api.MatmulAlgoGetHeuristic) &&
         Bind(library, "cublasLtMatmulDescInit_internal", api.MatmulDescInit) &&
         Bind(library, "cublasLtMatmulDescSetAttribute", api.MatmulDescSetAttribute) &&
         Bind(library, "cublasLtMatmulPreferenceInit_internal", api.MatmulPreferenceInit) &&
         Bind(library, "cublasLtMatmulPreferenceSetAttribute", api.MatmulPreferenceSetAttribute) &&
         Bind(library, "cublasLtMatrixLayoutInit_internal", api.MatrixLayoutInit);
}

}  // namespace

Result<BlasLtLibrary> OpenBlasLt() {
  // The run time's major version first: one CUDA's libraries belong together.
  const std::vector<std::string> names = {"libcublasLt.so." + std::to_string(CUDART_VERSION / 1000),
                                          "libcublasLt.so"};
  const std::string own_folder = OwnFolder();
  for (const std::string& folder : {own_folder, std::string(), std::string(kToolkitFolder)}) {
    for (const std::string& name : names) {
      void* library = dlopen((folder + name).c_str(), RTLD_NOW | RTLD_LOCAL);
      if (library == nullptr) continue;
      BlasLtLibrary api;
      if (BindAll(library, api)) return api;
      dlclose(library);
    }
  }
  return kvs::Error(Code::kUnavailable, names[0] + " is neither in " + own_folder +
                                            ", nor where the system looks, nor in " +
                                            kToolkitFolder);
}

}  // namespace kvs::gpu
