#include "gpu/linear.h"

#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "gpu/blas_lt.h"
#include "gpu/gpu_test_util.h"
#include "gpu/hopper/stream_gemm_shape.h"
#include "gpu/linear_kernels.h"
#include "reference/naive.h"

namespace kvs::gpu {
namespace {

constexpr uint32_t kRows = 300;
constexpr size_t kNumPartials = 4 << 20;

GpuWeight WeightOver(const DeviceArray<uint16_t>& values, uint32_t out_features,
                     uint32_t in_features, DType act) {
  GpuWeight weight;
  weight.out_features = out_features;
  weight.in_features = in_features;
  weight.dtype = act;
  weight.data = DeviceBuffer(values.data(), values.size() * 2, [](void*, size_t) {});
  return weight;
}

// One weight, kRows rows of x and, on first use, their product in float64, or that of a few rows.
class Problem {
 public:
  Problem(uint32_t out_features, uint32_t in_features, DType act)
      : act_(act),
        random_(out_features * 31 + in_features),
        x_stored_(Encode16(random_.Normals(size_t{kRows} * in_features), act)),
        w_stored_(Encode16(random_.Normals(size_t{out_features} * in_features, 0.05f), act)),
        x_(x_stored_),
        w_(w_stored_),
        partials_(kNumPartials),
        counters_(std::vector<uint32_t>(kNumGemvCounters, 0)),
        weight_(WeightOver(w_, out_features, in_features, act)) {
    const Launch launch = TestLaunch(act);
    PrepareGemv(*launch.facts);
    PrepareGemmTiled(*launch.facts);
    PrepareStreamGemv(*launch.facts);
    PrepareStreamGemm(*launch.facts);
  }

  std::vector<double> Want(uint32_t num_rows) {
    const size_t columns = weight_.out_features;
    if (want_.size() < num_rows * columns) {
      want_ = naive::Linear(Decode16(x_stored_, act_), Decode16(w_stored_, act_),
                            num_rows <= kMaxGemvRows         ? kMaxGemvRows
                            : num_rows <= kMaxStreamGemmRows ? kMaxStreamGemmRows
                                                             : kRows,
                            weight_.in_features, weight_.out_features);
    }
    return {want_.begin(), want_.begin() + static_cast<ptrdiff_t>(num_rows * columns)};
  }

  // The product of the first rows by `multiply(LinearParams, Launch)`, stored as float32 or act.
  template <class F>
  std::vector<float> Multiply(uint32_t num_rows, bool out_is_f32, F&& multiply) const {
    const size_t count = size_t{num_rows} * weight_.out_features;
    const DeviceArray<float> out_f32(out_is_f32 ? count : 0);
    const DeviceArray<uint16_t> out_act(out_is_f32 ? 0 : count);
    void* out = out_is_f32 ? static_cast<void*>(out_f32.data()) : out_act.data();
    multiply(LinearParams{x_.data(), &weight_, out, num_rows, out_is_f32}, TestLaunch(act_));
    KVS_GPU(DeviceSynchronize());
    return out_is_f32 ? out_f32.ToHost() : Decode16(out_act.ToHost(), act_);
  }

  GemvWorkspace workspace() const { return {partials_.data(), kNumPartials, counters_.data()}; }
  bool GemvServes(uint32_t num_rows) const {
    return gpu::GemvServes({x_.data(), &weight_, nullptr, num_rows, true}, workspace(),
                           *TestLaunch(act_).facts);
  }
  std::vector<float> ByGemv(uint32_t num_rows, bool out_is_f32) const {
    return Multiply(num_rows, out_is_f32, [&](const LinearParams& params, const Launch& launch) {
      Gemv(params, workspace(), launch);
    });
  }
  bool StreamServes(uint32_t num_rows) const {
    return StreamGemvServes({x_.data(), &weight_, nullptr, num_rows, true},
                            *TestLaunch(act_).facts);
  }
  std::vector<float> ByStream(uint32_t num_rows, bool out_is_f32) const {
    return Multiply(num_rows, out_is_f32, [](const LinearParams& params, const Launch& launch) {
      StreamGemv(params, launch);
    });
  }
  bool StreamGemmServes(uint32_t num_rows) const {
    return gpu::StreamGemmServes({x_.data(), &weight_, nullptr, num_rows, true},
                                 *TestLaunch(act_).facts);
  }
  std::vector<float> ByStreamGemm(uint32_t num_rows, bool out_is_f32) const {
    return Multiply(num_rows, out_is_f32, [](const LinearParams& params, const Launch& launch) {
      StreamGemm(params, launch);
    });
  }
  std::vector<float> ByTiles(uint32_t num_rows, bool out_is_f32) const {
    return Multiply(num_rows, out_is_f32, GemmTiled);
  }
  const GpuWeight& weight() const { return weight_; }

 private:
  const DType act_;
  Random random_;
  const std::vector<uint16_t> x_stored_, w_stored_;
  const DeviceArray<uint16_t> x_, w_;
  const DeviceArray<float> partials_;
  const DeviceArray<uint32_t> counters_;
  GpuWeight weight_;
  std::vector<double> want_;
};

// Short and uneven, with segments that are empty, more than one wave of tiles, and so wide that x
// has to be shared out.
constexpr LinearShape kShapes[] = {{24, 8},      {64, 40},     {200, 576},
                                   {2600, 4096}, {152, 14336}, {3001, 1056}};

TEST(GpuLinear, GemvMatchesReference) {
  for (const DType act : {DType::kBf16, DType::kF16}) {
    for (const auto [out_features, in_features] : kShapes) {
      Problem problem(out_features, in_features, act);
      for (const uint32_t num_rows : {1u, 2u, 7u, 8u, 9u, 16u, 17u, 32u}) {
        if (!problem.GemvServes(num_rows)) continue;
        const std::string at = std::to_string(out_features) + "x" + std::to_string(in_features) +
                               " rows " + std::to_string(num_rows);
        EXPECT_LT(RelativeRms(problem.ByGemv(num_rows, true), problem.Want(num_rows)), 2e-5) << at;
        EXPECT_LT(RelativeRms(problem.ByGemv(num_rows, false), problem.Want(num_rows)), 3e-3) << at;
      }
    }
  }
}

TEST(GpuLinear, StreamMatchesReference) {
  for (const DType act : {DType::kBf16, DType::kF16}) {
    for (const LinearShape& shape : kShapes) {
      Problem problem(shape.out_features, shape.in_features, act);
      for (const uint32_t num_rows : {1u, 2u, 3u, 5u, 8u}) {
        if (!problem.StreamServes(num_rows)) continue;
        const std::string at = Name(shape, num_rows);
        EXPECT_LT(RelativeRms(problem.ByStream(num_rows, true), problem.Want(num_rows)), 2e-5)
            << at;
        EXPECT_LT(RelativeRms(problem.ByStream(num_rows, false), problem.Want(num_rows)), 3e-3)
            << at;
      }
    }
  }
}

// Besides those of kShapes: tiles of every width, alone and shared, and more than one wave of them.
constexpr LinearShape kWideShapes[] = {{9000, 320}, {16000, 192}, {25000, 64}, {28672, 128},
                                       {40008, 64}, {152, 64},    {6000, 192}, {8192, 192},
                                       {12000, 64}, {16800, 64}};

constexpr bool HasTiles(uint32_t columns, uint32_t split) {
  for (const LinearShape& shape : kWideShapes) {
    const GemmShape tiles = ChooseGemmShape(shape.out_features, shape.in_features, 132);
    if (tiles.columns == columns && tiles.split == split) return true;
  }
  return false;
}
static_assert(HasTiles(64, 1) && HasTiles(96, 1) && HasTiles(128, 1) && HasTiles(192, 1) &&
              HasTiles(224, 1) && HasTiles(256, 1));
static_assert(HasTiles(96, 2) && HasTiles(128, 2) && HasTiles(192, 2) && HasTiles(256, 2));

TEST(GpuLinear, StreamGemmMatchesReference) {
  const auto check = [](const LinearShape& shape, DType act, std::span<const uint32_t> row_counts) {
    Problem problem(shape.out_features, shape.in_features, act);
    for (const uint32_t num_rows : row_counts) {
      if (!problem.StreamGemmServes(num_rows)) continue;
      const std::string at = Name(shape, num_rows);
      EXPECT_LT(RelativeRms(problem.ByStreamGemm(num_rows, true), problem.Want(num_rows)), 2e-5)
          << at;
      EXPECT_LT(RelativeRms(problem.ByStreamGemm(num_rows, false), problem.Want(num_rows)), 3e-3)
          << at;
    }
  };
  constexpr uint32_t kRowCounts[] = {1, 9, 16, 33, 64, 65, 100, 128}, kFewCounts[] = {16, 128};
  for (const DType act : {DType::kBf16, DType::kF16}) {
    for (const LinearShape& shape : kShapes) check(shape, act, kRowCounts);
    for (const LinearShape& shape : kWideShapes) check(shape, act, kFewCounts);
  }
}

// x, normalized when `norm` is not empty, the product and its finish; `out` holds `before`.
// float64.
std::vector<double> WantFused(const std::vector<float>& x, const std::vector<float>& w,
                              const std::vector<float>& norm, const std::vector<float>& before,
                              const LinearParams& params) {
  const uint32_t rows = params.num_rows, dim = params.weight->in_features;
  const uint32_t columns = params.weight->out_features;
  std::vector<double> in(x.begin(), x.begin() + size_t{rows} * dim);
  if (!norm.empty()) in = naive::AddRmsNorm(&in, {}, norm, rows, params.norm_eps);
  const auto product =
      naive::Linear(std::vector<float>(in.begin(), in.end()), w, rows, dim, columns);
  std::vector<double> want;
  for (uint32_t row = 0; row < rows; ++row) {
    const double* of_row = product.data() + size_t{row} * columns;
    if (params.finish == LinearFinish::kSiluMul) {
      for (uint32_t i = 0; i < columns / 2; ++i) {
        want.push_back(naive::Silu(of_row[i]) * of_row[columns / 2 + i]);
      }
      continue;
    }
    for (uint32_t i = 0; i < columns; ++i) {
      const bool adds = params.finish == LinearFinish::kAdd;
      want.push_back(of_row[i] + (adds ? before[size_t{row} * columns + i] : 0));
    }
  }
  return want;
}

TEST(GpuLinear, StreamNormalizesAndFinishes) {
  constexpr uint32_t kMaxRows = kMaxStreamGemmRows;
  const DeviceFacts& facts = *TestLaunch(DType::kBf16).facts;
  PrepareStreamGemv(facts);
  PrepareStreamGemm(facts);
  for (const DType act : {DType::kBf16, DType::kF16}) {
    for (const auto [columns, dim] :
         {LinearShape{200, 576}, {2602, 4096}, {330, 8192}, {28668, 72}}) {
      Random random(columns);
      const auto x = Encode16(random.Normals(size_t{kMaxRows} * dim, 3.0f), act);
      const auto w = Encode16(random.Normals(size_t{columns} * dim, 0.02f), act);
      const auto before = Encode16(random.Normals(size_t{kMaxRows} * columns), act);
      const auto norm = random.Normals(dim);
      const DeviceArray<uint16_t> device_x(x), device_w(w);
      const DeviceArray<float> device_norm(norm);
      const GpuWeight weight = WeightOver(device_w, columns, dim, act);
      const auto check = [&](const LinearFinish finish, uint32_t rows, bool normalizes) {
        const DeviceArray<uint16_t> out(before);
        const LinearParams params = {.x = device_x.data(),
                                     .weight = &weight,
                                     .out = out.data(),
                                     .num_rows = rows,
                                     .out_is_f32 = false,
                                     .norm_weight = normalizes ? device_norm.data() : nullptr,
                                     .norm_eps = 1e-5f,
                                     .finish = finish};
        if (StreamGemvServes(params, facts)) {
          StreamGemv(params, TestLaunch(act));
        } else if (StreamGemmServes(params, facts)) {
          StreamGemm(params, TestLaunch(act));
        } else {
          return;
        }
        const auto want =
            WantFused(Decode16(x, act), Decode16(w, act), normalizes ? norm : std::vector<float>(),
                      Decode16(before, act), params);
        auto got = out.ToHost();
        EXPECT_TRUE(std::equal(got.begin() + static_cast<ptrdiff_t>(want.size()), got.end(),
                               before.begin() + static_cast<ptrdiff_t>(want.size())));
        got.resize(want.size());
        EXPECT_LT(RelativeRms(Decode16(got, act), want), act == DType::kF16 ? 2e-3 : 1e-2)
            << Name({columns, dim}, rows) << " finish " << static_cast<int>(finish)
            << (normalizes ? " of normalized rows" : "");
      };
      for (const LinearFinish finish :
           {LinearFinish::kStore, LinearFinish::kAdd, LinearFinish::kSiluMul}) {
        for (const uint32_t rows : {1u, 3u, 8u}) {
          check(finish, rows, true);
          check(finish, rows, false);
        }
        for (const uint32_t rows : {9u, 64u, 65u}) check(finish, rows, false);
      }
    }
  }
}

TEST(GpuLinear, TilesMatchReference) {
  for (const DType act : {DType::kBf16, DType::kF16}) {
    for (const auto [out_features, in_features] : kShapes) {
      Problem problem(out_features, in_features, act);
      for (const uint32_t num_rows : {1u, 33u, 64u, 65u, 300u}) {
        const std::string at = std::to_string(out_features) + "x" + std::to_string(in_features) +
                               " rows " + std::to_string(num_rows);
        EXPECT_LT(RelativeRms(problem.ByTiles(num_rows, true), problem.Want(num_rows)), 2e-5) << at;
        EXPECT_LT(RelativeRms(problem.ByTiles(num_rows, false), problem.Want(num_rows)), 3e-3)
            << at;
      }
    }
  }
}

// Every element the same bits, whatever the number of rows and whichever kernel ran.
TEST(GpuLinear, RowsDoNotDependOnTheirCompany) {
  for (const DType act : {DType::kBf16, DType::kF16}) {
    for (const auto [out_features, in_features] : kShapes) {
      const Problem problem(out_features, in_features, act);
      const auto want = problem.ByTiles(kRows, true);
      const auto expect_same = [&](const std::vector<float>& got, const char* kernel) {
        EXPECT_EQ(std::memcmp(got.data(), want.data(), got.size() * sizeof(float)), 0)
            << kernel << " " << out_features << "x" << in_features << " rows "
            << got.size() / out_features;
      };
      for (const uint32_t num_rows : {1u, 7u, 16u, 64u, 65u}) {
        expect_same(problem.ByTiles(num_rows, true), "tiled");
      }
      for (const uint32_t num_rows : {1u, 7u, 16u, 32u}) {
        if (problem.GemvServes(num_rows)) expect_same(problem.ByGemv(num_rows, true), "gemv");
      }
      for (const uint32_t num_rows : {1u, 2u, 7u, 8u}) {
        if (problem.StreamServes(num_rows)) expect_same(problem.ByStream(num_rows, true), "stream");
      }
    }
  }
}

// A replayed graph of dependent launches, each reading what the one before it wrote.
TEST(GpuLinear, DependentLaunchesFollowEachOther) {
  constexpr uint32_t kDim = 2048, kLaunches = 20;
  for (const auto& [num_rows, stream] : {std::pair{1u, true},
                                         {8u, true},
                                         {24u, true},
                                         {100u, true},
                                         {1u, false},
                                         {8u, false},
                                         {24u, false},
                                         {200u, false}}) {
    const Problem problem(kDim, kDim, DType::kBf16);
    const bool streams_few = problem.StreamServes(num_rows);
    if (stream && !streams_few && !problem.StreamGemmServes(num_rows)) continue;
    const DeviceArray<uint16_t> a(size_t{kRows} * kDim), b(size_t{kRows} * kDim);
    const auto chain = [&](Launch launch, const LinearParams& first) {
      const void* x = first.x;
      for (uint32_t i = 0; i < kLaunches; ++i) {
        void* out = i + 1 == kLaunches ? first.out : i % 2 == 0 ? a.data() : b.data();
        const LinearParams params = {x, first.weight, out, num_rows, false};
        if (stream) {
          streams_few ? StreamGemv(params, launch) : StreamGemm(params, launch);
        } else if (num_rows <= kMaxGemvRows) {
          Gemv(params, problem.workspace(), launch);
        } else {
          GemmTiled(params, launch);
        }
        if (!launch.dependent) KVS_GPU(StreamSynchronize(launch.stream));
        x = out;
      }
    };
    const auto want = problem.Multiply(
        num_rows, false, [&](const auto& params, Launch launch) { chain(launch, params); });
    const auto got = problem.Multiply(num_rows, false, [&](const auto& params, Launch launch) {
      KVS_GPU(StreamCreate(&launch.stream));
      launch.dependent = true;
      Graph graph;
      GraphExec replay;
      KVS_GPU(StreamBeginCapture(launch.stream, KVS_GPU_NAME(StreamCaptureModeThreadLocal)));
      chain(launch, params);
      KVS_GPU(StreamEndCapture(launch.stream, &graph));
      ASSERT_EQ(InstantiateGraph(&replay, graph), kSuccess);
      for (int i = 0; i < 3; ++i) KVS_GPU(GraphLaunch(replay, launch.stream));
      KVS_GPU(StreamSynchronize(launch.stream));
      KVS_GPU(GraphExecDestroy(replay));
      KVS_GPU(GraphDestroy(graph));
      KVS_GPU(StreamDestroy(launch.stream));
    });
    EXPECT_EQ(want, got) << num_rows;
    EXPECT_FALSE(std::isnan(want[0])) << num_rows;
  }
}

class GpuLinearOp : public ::testing::Test {
 protected:
  void SetUp() override { std::filesystem::remove_all(cache_dir_); }
  void TearDown() override { std::filesystem::remove_all(cache_dir_); }

  const std::string cache_dir_ =
      (std::filesystem::temp_directory_path() / ("kvs_linear_test_" + std::to_string(getpid())))
          .string();
};

TEST_F(GpuLinearOp, MatchesReferenceTunedAndNot) {
  for (const DType act : {DType::kBf16, DType::kF16}) {
    const Launch launch = TestLaunch(act);
    Problem problem(2600, 4096, act);
    for (const bool tuned : {false, true}) {
      LinearOp op;
      ASSERT_TRUE(op.Reserve({.act = act, .batch_invariant = false, .cache_dir = cache_dir_},
                             *launch.facts));
      const GpuWeight* weight = &problem.weight();
      if (tuned) op.Tune({&weight, 1}, kRows, true, launch.stream);
      for (const uint32_t num_rows : {1u, 16u, 17u, 33u, 300u}) {
        const auto got = problem.Multiply(num_rows, true,
                                          [&](const auto& params, Launch l) { op.Run(params, l); });
        EXPECT_LT(RelativeRms(got, problem.Want(num_rows)), 2e-5) << op.Describe() << num_rows;
      }
    }
  }
}

TEST_F(GpuLinearOp, KeepsWhatItTuned) {
  const Launch launch = TestLaunch(DType::kBf16);
  const Problem problem(2600, 4096, DType::kBf16);
  const GpuWeight* weight = &problem.weight();
  const auto tune = [&] {
    LinearOp op;
    EXPECT_TRUE(op.Reserve({.cache_dir = cache_dir_}, *launch.facts));
    op.Tune({&weight, 1}, 64, false, launch.stream);
    return op.Describe();
  };
  if (tune().find("cuBLASLt") == std::string::npos) GTEST_SKIP() << "no cuBLASLt here";
  ASSERT_TRUE(std::filesystem::exists(cache_dir_));
  const auto file = std::filesystem::directory_iterator(cache_dir_)->path();
  EXPECT_GT(std::filesystem::file_size(file), 100u);
  // A start whose time is up leaves shapes for the next, so a device that others use takes several.
  // Once all are in the cache, nothing is written.
  bool writes = true;
  for (int start = 0; start < 10 && writes; ++start) {
    const auto written = std::filesystem::last_write_time(file);
    tune();
    writes = std::filesystem::last_write_time(file) != written;
  }
  EXPECT_FALSE(writes);
}

TEST_F(GpuLinearOp, LibraryServesWhatThereWasNoTimeToTune) {
  constexpr DType kAct = DType::kBf16;
  constexpr size_t kWorkspaceBytes = 4 << 20;
  constexpr uint32_t kRowCounts[] = {512, 32, 1};
  const DeviceArray<uint8_t> workspace(kWorkspaceBytes);
  auto blas = BlasLt::Open({.act = kAct,
                            .workspace = workspace.data(),
                            .workspace_bytes = kWorkspaceBytes,
                            .cache_prefix = cache_dir_ + "/gemm"});
  if (!blas) GTEST_SKIP() << blas.error().message();
  Problem problem(2600, 4096, kAct);
  const GpuWeight* weight = &problem.weight();
  (*blas)->Tune({&weight, 1}, {.row_counts = kRowCounts, .out_is_f32 = true, .budget_ms = -1},
                TestLaunch(kAct).stream);
  EXPECT_FALSE(std::filesystem::exists(cache_dir_)) << "what was not timed is not kept";
  // One; a bucket with a kernel loaded, full and not; a bucket that has none; one of too many rows.
  for (const uint32_t num_rows : {1u, 32u, 17u, 33u, kRows}) {
    const auto got = problem.Multiply(
        num_rows, true,
        [&](const auto& params, const Launch& launch) { (*blas)->Run(params, launch); });
    EXPECT_LT(RelativeRms(got, problem.Want(num_rows)), 2e-5) << num_rows;
  }
}

TEST_F(GpuLinearOp, BatchInvariantRowsDoNotDependOnTheirCompany) {
  const Problem problem(2600, 4096, DType::kBf16);
  LinearOp op;
  ASSERT_TRUE(
      op.Reserve({.batch_invariant = true, .cache_dir = {}}, *TestLaunch(DType::kBf16).facts));
  const auto run = [&](uint32_t num_rows) {
    return problem.Multiply(num_rows, true,
                            [&](const auto& params, Launch launch) { op.Run(params, launch); });
  };
  const auto want = run(kRows);
  for (const uint32_t num_rows : {1u, 8u, 17u, 64u}) {
    const auto got = run(num_rows);
    EXPECT_EQ(std::memcmp(got.data(), want.data(), got.size() * sizeof(float)), 0) << num_rows;
  }
}

}  // namespace
}  // namespace kvs::gpu
