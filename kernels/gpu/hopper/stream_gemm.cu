#include "gpu/hopper/stream_gemm.cuh"

#include <algorithm>

#include "gpu/gpu_weight.h"
#include "gpu/hopper/stream_gemm_shape.h"

namespace kvs::gpu {
namespace {

using hopper::GemmTraits;
using hopper::StreamGemmKernel;
using hopper::StreamGemmParams;

// Calls f.template operator()<Traits>().
template <class T, uint32_t kGroups, class F>
void DispatchColumns(uint32_t columns, F&& f) {
  switch (columns) {
    case 64:
      return f.template operator()<GemmTraits<T, kGroups, 64>>();
    case 96:
      return f.template operator()<GemmTraits<T, kGroups, 96>>();
    case 128:
      return f.template operator()<GemmTraits<T, kGroups, 128>>();
    case 192:
      return f.template operator()<GemmTraits<T, kGroups, 192>>();
    case 224:
      return f.template operator()<GemmTraits<T, kGroups, 224>>();
    default:
      KVS_CHECK_OP(columns, ==, 256u);
  }
  f.template operator()<GemmTraits<T, kGroups, 256>>();
}
template <class F>
void DispatchGemm(DType act, uint32_t num_rows, uint32_t columns, F&& f) {
  DispatchAct(act, [&]<class T>() {
    num_rows <= hopper::kGroupRows ? DispatchColumns<T, 1>(columns, f)
                                   : DispatchColumns<T, 2>(columns, f);
  });
}

uint32_t LargestDynamic(const DeviceFacts& facts) {
  constexpr uint32_t kStatic = 1024;  // the barriers, up to where boxes may lie
  static_assert(sizeof(hopper::GemmShared) <= kStatic);
  return static_cast<uint32_t>(facts.max_shared_bytes) - kStatic;
}

StreamGemmParams ParamsOf(const LinearParams& params, const GemmShape& shape) {
  const bool pairs = params.finish == LinearFinish::kSiluMul;
  StreamGemmParams gemm = {};
  gemm.out = params.out;
  gemm.num_rows = params.num_rows;
  gemm.x_box_rows = CeilDiv(params.num_rows, 8) * 8;
  gemm.num_outputs = params.weight->out_features / (pairs ? 2 : 1);
  gemm.num_tiles = shape.num_tiles;
  gemm.split = shape.split;
  gemm.finish = params.finish;
  gemm.out_is_f32 = params.out_is_f32;
  return gemm;
}

// Of a weight, what the second-level cache reads at once. A stage of one panel is 128 bytes of each
// row, and the next 128 are asked for right behind. The five stacks of an H100 serve that faster as
// 256 (gate and up of 64 rows 81.6 instead of 85.0 us), the six of an H200 as it is asked for (57.5
// instead of 59.6), and so do both where a stage has 256.
uint32_t ReadBytes(uint32_t panels, const DeviceFacts& facts) {
  constexpr int kFiveStacks = 5120;
  return panels == 1 && facts.memory_bus_bits <= kFiveStacks ? 256 : 128;
}

// As LaunchKernel does, in clusters.
template <class Traits>
void Start(const LinearParams& params, const GemmShape& shape, const Launch& launch) {
  const auto& weight = static_cast<const GpuWeight&>(*params.weight);
  const uint32_t exchange_bytes = shape.split > 1 ? Traits::kExchangeBytes : 0;
  const uint32_t stages_bytes = LargestDynamic(*launch.facts) - exchange_bytes;
  StreamGemmParams gemm = ParamsOf(params, shape);
  gemm.num_chunks = CeilDiv(weight.in_features, Traits::kPanels * kPanelColumns);
  gemm.num_stages = std::min(hopper::kMaxGemmStages, stages_bytes / Traits::kStageBytes);

  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim = {shape.split, 1, 1};
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  const auto processors = static_cast<uint32_t>(launch.facts->num_multiprocessors);
  config.gridDim = dim3(std::min(shape.num_tiles * shape.split, processors));
  config.blockDim = dim3(Traits::kThreads);
  config.dynamicSmemBytes = gemm.num_stages * Traits::kStageBytes + exchange_bytes;
  config.stream = launch.stream;
  config.attrs = attributes;
  config.numAttrs = launch.dependent ? 2 : 1;
  const uint32_t row_bytes = 2 * weight.in_features;
  KVS_GPU(LaunchKernelEx(
      &config, StreamGemmKernel<Traits>,
      hopper::MapOfTiles(weight.data.data(), weight.out_features, row_bytes, Traits::kColumns / 2,
                         Traits::kPanels, ReadBytes(Traits::kPanels, *launch.facts)),
      hopper::MapOfMatrix(params.x, params.num_rows, row_bytes, gemm.x_box_rows), gemm));
}

}  // namespace

void PrepareStreamGemm(const DeviceFacts& facts) {
  if (facts.major != 9) return;
  for (const DType act : {DType::kBf16, DType::kF16}) {
    for (const uint32_t num_rows : {hopper::kGroupRows, kMaxStreamGemmRows}) {
      for (const uint32_t columns : kGemmColumns) {
        DispatchGemm(act, num_rows, columns, [&]<class Traits>() {
          AllowShared(StreamGemmKernel<Traits>, LargestDynamic(facts));
        });
      }
    }
  }
}

bool StreamGemmServes(const LinearParams& params, const DeviceFacts& facts) {
  return facts.major == 9 && params.num_rows <= kMaxStreamGemmRows &&
         params.weight->dtype != DType::kF8E4M3 &&
         params.weight->out_features % (params.finish == LinearFinish::kSiluMul ? 16 : 8) == 0 &&
         params.weight->in_features % kPanelColumns == 0 && params.norm_weight == nullptr &&
         params.finish != LinearFinish::kAdd;
}

void StreamGemm(const LinearParams& params, const Launch& launch) {
  KVS_CHECK_OP(params.num_rows, >=, 1u);
  KVS_CHECK(StreamGemmServes(params, *launch.facts));
  KVS_CHECK(params.weight->dtype == launch.act);
  KVS_CHECK(params.finish == LinearFinish::kStore || !params.out_is_f32);
  const GemmShape shape = ChooseGemmShape(params.weight->out_features, params.weight->in_features,
                                          static_cast<uint32_t>(launch.facts->num_multiprocessors));
  DispatchGemm(launch.act, params.num_rows, shape.columns,
               [&]<class Traits>() { Start<Traits>(params, shape, launch); });
}

}  // namespace kvs::gpu
