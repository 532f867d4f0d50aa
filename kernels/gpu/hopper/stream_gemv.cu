#include "gpu/hopper/stream_gemv.cuh"

#include "gpu/gpu_weight.h"

namespace kvs::gpu {
namespace {

using hopper::StreamGemvParams;
using hopper::XKind;

size_t LargestDynamic(const DeviceFacts& facts) {
  constexpr size_t kStatic = sizeof(hopper::StreamShared) + 128;
  return facts.max_shared_bytes > kStatic ? facts.max_shared_bytes - kStatic : 0;
}

uint32_t RowBytes(const LinearWeight& weight) {
  return weight.in_features * static_cast<uint32_t>(SizeOf(weight.dtype));
}

XKind KindOf(const LinearParams& params) {
  const bool fp8 = params.weight->dtype == DType::kF8E4M3;
  if (fp8 && params.num_rows <= kMaxQuantizingRows) return XKind::kQuantized;
  if (params.norm_weight != nullptr) return XKind::kShared;
  const uint32_t row_bytes = RowBytes(*params.weight);
  if (row_bytes <= hopper::kRegisterChunks * hopper::kChunk) return XKind::kRegisters;
  const bool many = fp8 && row_bytes <= hopper::kManyRegisterChunks * hopper::kChunk;
  return many ? XKind::kManyRegisters : XKind::kShared;
}

// Calls f(kernel) with the instance for activations of T.
template <class T, class F>
void DispatchStream(bool fp8, XKind kind, F&& f) {
  using hopper::E4M3;
  using hopper::StreamGemvKernel;
  if (!fp8 && kind == XKind::kShared) return f(StreamGemvKernel<T, T, XKind::kShared>);
  if (!fp8) return f(StreamGemvKernel<T, T, XKind::kRegisters>);
  if (kind == XKind::kQuantized) return f(StreamGemvKernel<T, E4M3, XKind::kQuantized>);
  if (kind == XKind::kRegisters) return f(StreamGemvKernel<T, E4M3, XKind::kRegisters>);
  if (kind == XKind::kManyRegisters) return f(StreamGemvKernel<T, E4M3, XKind::kManyRegisters>);
  return f(StreamGemvKernel<T, E4M3, XKind::kShared>);
}

size_t XBytes(const LinearParams& params) {
  const XKind kind = KindOf(params);
  if (kind == XKind::kRegisters || kind == XKind::kManyRegisters) return 0;
  return size_t{params.num_rows} * hopper::StreamXStride(RowBytes(*params.weight));
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
      for (const bool fp8 : {false, true}) {
        for (const XKind kind :
             {XKind::kShared, XKind::kRegisters, XKind::kManyRegisters, XKind::kQuantized}) {
          DispatchStream<T>(fp8, kind,
                            [&](auto* kernel) { AllowShared(kernel, LargestDynamic(facts)); });
        }
      }
    });
  }
}

bool StreamGemvServes(const LinearParams& params, const DeviceFacts& facts) {
  if (facts.major != 9 || params.num_rows > kMaxStreamRows) return false;
  if (KindOf(params) == XKind::kQuantized &&
      params.weight->in_features > hopper::kMaxQuantizedFeatures) {
    return false;
  }
  return RowBytes(*params.weight) % hopper::kStep == 0 && NumStages(params, facts) >= 2;
}

void StreamGemv(const LinearParams& params, const Launch& launch, const QuantizedRows* quantized) {
  const auto& weight = static_cast<const GpuWeight&>(*params.weight);
  const bool pairs = params.finish == LinearFinish::kSiluMul;
  const bool fp8 = weight.dtype == DType::kF8E4M3;
  const XKind kind = KindOf(params);
  KVS_CHECK_OP(params.num_rows, >=, 1u);
  KVS_CHECK(StreamGemvServes(params, *launch.facts));
  KVS_CHECK(fp8 || weight.dtype == launch.act);
  KVS_CHECK(params.finish == LinearFinish::kStore || !params.out_is_f32);
  KVS_CHECK(!pairs || weight.out_features % 2 == 0);
  const bool takes_codes = fp8 && kind != XKind::kQuantized;
  KVS_CHECK(takes_codes == (quantized != nullptr));
  KVS_CHECK(!takes_codes || params.norm_weight == nullptr);
  const StreamGemvParams stream = {.x = takes_codes ? quantized->codes : params.x,
                                   .norm_weight = params.norm_weight,
                                   .weight = weight.data.data(),
                                   .row_scales = weight.row_scales.as<float>(),
                                   .x_scales = takes_codes ? quantized->scales : nullptr,
                                   .out = params.out,
                                   .num_rows = params.num_rows,
                                   .in_features = weight.in_features,
                                   .row_bytes = RowBytes(weight),
                                   .num_outputs = weight.out_features / (pairs ? 2 : 1),
                                   .num_stages = NumStages(params, *launch.facts),
                                   .norm_eps = params.norm_eps,
                                   .input_scale = weight.input_scale,
                                   .finish = params.finish,
                                   .out_is_f32 = params.out_is_f32};
  const auto processors = static_cast<uint32_t>(launch.facts->num_multiprocessors);
  const size_t shared_bytes = stream.num_stages * hopper::kStageBytes + XBytes(params);
  DispatchAct(launch.act, [&]<class T>() {
    DispatchStream<T>(fp8, kind, [&](auto* kernel) {
      LaunchKernel(kernel, dim3(std::min(processors, stream.num_outputs)),
                   dim3(hopper::kStreamThreads), shared_bytes, launch, stream);
    });
  });
}

}  // namespace kvs::gpu
