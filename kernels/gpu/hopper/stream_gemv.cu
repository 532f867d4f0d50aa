#include "gpu/hopper/stream_gemv.cuh"

#include "gpu/gpu_weight.h"

namespace kvs::gpu {
namespace {

using hopper::StreamGemvParams;

size_t LargestDynamic(const DeviceFacts& facts) {
  constexpr size_t kStatic = sizeof(hopper::StreamShared) + 128;
  return facts.max_shared_bytes > kStatic ? facts.max_shared_bytes - kStatic : 0;
}

bool HoldsXInRegisters(const LinearParams& params) {
  return params.norm_weight == nullptr &&
         params.weight->in_features <= hopper::kRegisterChunks * hopper::kChunk;
}

size_t XBytes(const LinearParams& params) {
  if (HoldsXInRegisters(params)) return 0;
  return size_t{params.num_rows} * hopper::StreamXStride(params.weight->in_features) * 2;
}

// Stages that fit into shared memory beside x; fewer than two are too few.
uint32_t NumStages(const LinearParams& params, const DeviceFacts& facts) {
  const size_t limit = LargestDynamic(facts), x_bytes = XBytes(params);
  if (x_bytes > limit) return 0;
  return static_cast<uint32_t>(
      std::min<size_t>(hopper::kMaxStages, (limit - x_bytes) / hopper::kStageBytes));
}

}  // namespace

void PrepareStreamGemv(const DeviceFacts& facts) {
  if (facts.major != 9) return;
  for (const DType act : {DType::kBf16, DType::kF16}) {
    DispatchAct(act, [&]<class T>() {
      AllowShared(hopper::StreamGemvKernel<T, false>, LargestDynamic(facts));
      AllowShared(hopper::StreamGemvKernel<T, true>, LargestDynamic(facts));
    });
  }
}

bool StreamGemvServes(const LinearParams& params, const DeviceFacts& facts) {
  return facts.major == 9 && params.num_rows <= kMaxStreamRows &&
         params.weight->in_features % kStepK == 0 && NumStages(params, facts) >= 2;
}

void StreamGemv(const LinearParams& params, const Launch& launch) {
  const auto& weight = static_cast<const GpuWeight&>(*params.weight);
  const bool pairs = params.finish == LinearFinish::kSiluMul;
  KVS_CHECK_OP(params.num_rows, >=, 1u);
  KVS_CHECK(StreamGemvServes(params, *launch.facts));
  KVS_CHECK(weight.dtype == launch.act);
  KVS_CHECK(params.finish == LinearFinish::kStore || !params.out_is_f32);
  KVS_CHECK(!pairs || weight.out_features % 2 == 0);
  const StreamGemvParams stream = {.x = params.x,
                                   .norm_weight = params.norm_weight,
                                   .weight = weight.data.data(),
                                   .out = params.out,
                                   .num_rows = params.num_rows,
                                   .in_features = weight.in_features,
                                   .num_outputs = weight.out_features / (pairs ? 2 : 1),
                                   .num_stages = NumStages(params, *launch.facts),
                                   .norm_eps = params.norm_eps,
                                   .finish = params.finish,
                                   .out_is_f32 = params.out_is_f32};
  const auto processors = static_cast<uint32_t>(launch.facts->num_multiprocessors);
  const size_t shared_bytes = stream.num_stages * hopper::kStageBytes + XBytes(params);
  DispatchAct(launch.act, [&]<class T>() {
    auto* const kernel = HoldsXInRegisters(params) ? hopper::StreamGemvKernel<T, true>
                                                   : hopper::StreamGemvKernel<T, false>;
    LaunchKernel(kernel, dim3(std::min(processors, stream.num_outputs)),
                 dim3(hopper::kStreamThreads), shared_bytes, launch, stream);
  });
}

}  // namespace kvs::gpu
