// The functions of cuBLASLt, from a library opened at run time. Included by blas_lt.cc and its
// parts alone.
#pragma once

#include <cublasLt.h>

#include "kvserve/status.h"

namespace kvs::gpu {

struct BlasLtLibrary {
  decltype(&cublasLtCreate) Create;
  decltype(&cublasLtDestroy) Destroy;
  decltype(&cublasLtGetVersion) GetVersion;
  decltype(&cublasLtMatmul) Matmul;
  decltype(&cublasLtMatmulAlgoCheck) MatmulAlgoCheck;
  decltype(&cublasLtMatmulAlgoGetHeuristic) MatmulAlgoGetHeuristic;
  decltype(&cublasLtMatmulDescInit_internal) MatmulDescInit;
  decltype(&cublasLtMatmulDescSetAttribute) MatmulDescSetAttribute;
  decltype(&cublasLtMatmulPreferenceInit_internal) MatmulPreferenceInit;
  decltype(&cublasLtMatmulPreferenceSetAttribute) MatmulPreferenceSetAttribute;
  decltype(&cublasLtMatrixLayoutInit_internal) MatrixLayoutInit;
};

// Looks beside this code's own library, then where the system looks, then in the CUDA toolkit. The
// library stays open for the life of the process. kUnavailable, saying where it was looked for.
Result<BlasLtLibrary> OpenBlasLt();

}  // namespace kvs::gpu
