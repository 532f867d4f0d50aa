#include "gpu/blas_lt_cache.h"

#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace kvs::gpu {
namespace {

constexpr size_t kAlgoWords = sizeof(cublasLtMatmulAlgo_t::data) / sizeof(uint64_t);

}  // namespace

BlasLtAlgorithms ReadBlasLtCache(const std::string& path) {
  BlasLtAlgorithms algorithms;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    BlasLtShape shape;
    cublasLtMatmulAlgo_t algo = {};
    uint32_t kind = 0;
    words >> shape.num_rows >> shape.out_features >> shape.in_features >> shape.out_is_f32 >> kind;
    shape.kind = static_cast<BlasLtKind>(kind);
    words >> std::hex;
    for (size_t i = 0; i < kAlgoWords; ++i) words >> algo.data[i];
    if (words && kind <= static_cast<uint32_t>(BlasLtKind::kFp8Sums)) algorithms[shape] = algo;
  }
  return algorithms;
}

void WriteBlasLtCache(const std::string& path, const BlasLtAlgorithms& algorithms) {
  std::error_code error;
  const std::filesystem::path target = path;
  std::filesystem::create_directories(target.parent_path(), error);
  const std::string draft = path + "." + std::to_string(getpid());
  std::ofstream file(draft);
  for (const auto& [shape, algo] : algorithms) {
    file << std::dec << shape.num_rows << ' ' << shape.out_features << ' ' << shape.in_features
         << ' ' << shape.out_is_f32 << ' ' << static_cast<uint32_t>(shape.kind) << std::hex;
    for (const uint64_t word : algo.data) file << ' ' << word;
    file << '\n';
  }
  file.close();
  if (file) {
    std::filesystem::rename(draft, target, error);
  } else {
    std::filesystem::remove(draft, error);
  }
}

}  // namespace kvs::gpu
