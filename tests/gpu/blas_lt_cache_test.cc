// The file of tuned algorithms: needs no device.
#include "gpu/blas_lt_cache.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

namespace kvs::gpu {
namespace {

class BlasLtCache : public ::testing::Test {
 protected:
  BlasLtCache()
      : dir_(std::filesystem::temp_directory_path() /
             ("kvserve-blas-lt-" + std::to_string(getpid()))) {}
  ~BlasLtCache() override { std::filesystem::remove_all(dir_); }
  std::string Path() const { return dir_ / "deeper" / "gemm"; }

  static cublasLtMatmulAlgo_t Algo(uint8_t fill) {
    cublasLtMatmulAlgo_t algo;
    std::memset(algo.data, fill, sizeof algo.data);
    return algo;
  }
  const std::filesystem::path dir_;
};

TEST_F(BlasLtCache, GivesBackWhatWasWritten) {
  EXPECT_TRUE(ReadBlasLtCache(Path()).empty());
  const BlasLtAlgorithms written = {{{16, 4096, 4096, false}, Algo(1)},
                                    {{16, 4096, 4096, true}, Algo(0xfe)},
                                    {{16, 4096, 4096, true, BlasLtKind::kFp8}, Algo(0xfd)},
                                    {{16, 4096, 4096, true, BlasLtKind::kFp8Sums}, Algo(0xfc)},
                                    {{8192, 128256, 4096, true}, Algo(0)}};
  WriteBlasLtCache(Path(), written);
  const BlasLtAlgorithms read = ReadBlasLtCache(Path());
  ASSERT_EQ(read.size(), written.size());
  for (const auto& [shape, algo] : written) {
    const auto found = read.find(shape);
    ASSERT_NE(found, read.end());
    EXPECT_EQ(std::memcmp(found->second.data, algo.data, sizeof algo.data), 0);
  }
}

TEST_F(BlasLtCache, PassesOverLinesThatCannotBeRead) {
  WriteBlasLtCache(Path(), {{{16, 64, 64, false}, Algo(3)}});
  std::ofstream(Path(), std::ios::app)
      << "32 64\nnot a line\n\n64 64 64 0 0 zz\n64 64 64 0 3 1 2 3 4 5 6 7 8\n";
  EXPECT_EQ(ReadBlasLtCache(Path()).size(), 1u);
}

TEST_F(BlasLtCache, AFolderThatCannotBeMadeIsNoError) {
  std::filesystem::create_directories(dir_);
  std::ofstream(dir_ / "deeper") << "a file";
  WriteBlasLtCache(Path(), {{{16, 64, 64, false}, Algo(3)}});
  EXPECT_TRUE(ReadBlasLtCache(Path()).empty());
}

TEST_F(BlasLtCache, RowsShareTheAlgorithmOfTheNextPowerOfTwo) {
  EXPECT_EQ((BlasLtShape{9, 64, 32, false}.Bucket()), (BlasLtShape{16, 64, 32, false}));
  EXPECT_EQ((BlasLtShape{16, 64, 32, true}.Bucket()), (BlasLtShape{16, 64, 32, true}));
  constexpr auto kFp8 = BlasLtKind::kFp8;
  EXPECT_EQ((BlasLtShape{3, 64, 32, true, kFp8}.Bucket()), (BlasLtShape{4, 64, 32, true, kFp8}));
}

}  // namespace
}  // namespace kvs::gpu
