#include "gpu/kv_codec.cuh"
#include "gpu/ops.h"
#include "gpu/rope_head.cuh"

namespace kvs::gpu {
namespace {

constexpr uint32_t kThreads = 128;

// Writes a head's part of K or V to its slot; returns how many elements were clipped. `kv_unit`
// counts the K heads, then the V heads.
template <uint32_t kHeadDim>
KVS_DEVICE uint32_t StoreKv(const KvView& kv, SlotId slot, uint32_t kv_unit, uint32_t lane,
                            float scale, HeadPart part) {
  const BlockId block{slot.value >> kv.layout.BlockShift()};
  const bool is_v = kv_unit >= kv.layout.num_kv_heads;
  const uint32_t head = is_v ? kv_unit - kv.layout.num_kv_heads : kv_unit;
  DivideBy(scale, part);
  const size_t plane = is_v ? kv.layout.VOffset(block, head) : kv.layout.KOffset(block, head);
  const size_t at = plane + size_t{slot.value & (kv.layout.block_size - 1)} * kHeadDim + 8 * lane;
  return EncodeEight(part.low, kv.layout.dtype, kv.data, at) +
         EncodeEight(part.high, kv.layout.dtype, kv.data, at + kHeadDim / 2);
}

// Adds one value's magnitude to `counts`, where they are wanted, and to the largest so far.
KVS_DEVICE void Observe(float value, uint32_t* counts, uint32_t& largest_bits) {
  const uint32_t bits = FloatBits(value) & 0x7fffffffu;
  largest_bits = max(largest_bits, bits);
  if (counts != nullptr) atomicAdd(counts + (bits >> 16), 1u);
}

KVS_DEVICE void GatherStats(const KvStats& stats, uint32_t kv_unit, const HeadPart& part,
                            uint32_t num_clipped) {
  uint32_t* counts =
      stats.counts == nullptr ? nullptr : stats.counts + size_t{kv_unit} * kKvStatsBins;
  uint32_t largest_bits = 0;
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) {
    Observe(part.low[i], counts, largest_bits);
    Observe(part.high[i], counts, largest_bits);
  }
  // Most threads find a larger value there already.
  if (largest_bits > stats.largest_bits[kv_unit]) {
    atomicMax(stats.largest_bits + kv_unit, largest_bits);
  }
  if (num_clipped > 0) atomicAdd(stats.num_saturated + kv_unit, num_clipped);
}

// kHeadDim / 16 threads work on one head of one token. blockIdx.x is the token.
template <class T, uint32_t kHeadDim, bool kStats>
__global__ void __launch_bounds__(kThreads)
    RopeKvStoreKernel(RopeKvStoreParams params, unsigned long long* num_saturated) {
  constexpr uint32_t kLanes = kHeadDim / 16;
  AllowNextKernel();
  const uint32_t num_kv_heads = params.kv.layout.num_kv_heads;
  const uint32_t num_units = params.num_heads + 2 * num_kv_heads;
  const uint32_t index = blockIdx.y * kThreads + threadIdx.x;
  const uint32_t lane = index % kLanes;
  const bool active = index / kLanes < num_units;
  // Threads past the end repeat the last V head without storing it: the warp stays whole.
  const uint32_t unit = active ? index / kLanes : num_units - 1;
  const uint32_t token = blockIdx.x;
  const bool is_q = unit < params.num_heads;
  const bool is_v = unit >= params.num_heads + num_kv_heads;
  const float* norm = is_q ? params.q_norm : is_v ? nullptr : params.k_norm;
  T* head = static_cast<T*>(params.qkv) + (size_t{token} * num_units + unit) * kHeadDim;
  // What no kernel writes is read while the one in front still runs.
  const SlotId slot = params.slot_mapping[token];
  HeadPart cos_sin{}, bias{}, norm_weight{};
  float scale = 1.0f;
  if (!is_v) {
    const float* of_position = params.cos_sin + size_t{params.positions[token]} * kHeadDim;
    cos_sin = LoadPart<kHeadDim>(of_position, lane);
  }
  if (!is_q) {
    scale = is_v ? params.kv.v_scale[unit - params.num_heads - num_kv_heads]
                 : params.kv.k_scale[unit - params.num_heads];
  }
  if (params.qkv_bias != nullptr) {
    bias = LoadPart<kHeadDim>(params.qkv_bias + size_t{unit} * kHeadDim, lane);
  }
  if (norm != nullptr) norm_weight = LoadPart<kHeadDim>(norm, lane);
  WaitForPreviousKernel();
  HeadPart part = LoadPart<T, kHeadDim>(head, lane);
  if (params.qkv_bias != nullptr) Add(bias, part);
  if (params.q_norm != nullptr || params.k_norm != nullptr) {
    // Every lane takes part in the shuffles, those of V heads too.
    const float factor = InverseRms<kHeadDim>(part, params.norm_eps);
    if (norm != nullptr) Scale(factor, norm_weight, part);
  }
  if (!is_v) Rotate(part, cos_sin);
  uint32_t num_clipped = 0;
  if (is_q) {
    StorePart<T, kHeadDim>(part, head, lane);
  } else if (active && slot.value >= params.kv.layout.block_size) {
    // Padding has a slot in the null block, which stays as it is: readers may rely on finite values
    // there.
    num_clipped = StoreKv<kHeadDim>(params.kv, slot, unit - params.num_heads, lane, scale, part);
    if constexpr (kStats) {
      GatherStats(params.kv.stats, unit - params.num_heads, part, num_clipped);
    }
  }
  if (!IsFp8(params.kv.layout.dtype)) return;
  num_clipped = WarpReduce(num_clipped, [](uint32_t a, uint32_t b) { return a + b; });
  if (num_clipped > 0 && threadIdx.x % kWarpSize == 0) atomicAdd(num_saturated, num_clipped);
}

// Calls f.template operator()<kHeadDim>().
template <class F>
void DispatchHeadDim(uint32_t head_dim, F&& f) {
  if (head_dim == 64) return f.template operator()<64>();
  if (head_dim == 128) return f.template operator()<128>();
  KVS_CHECK_OP(head_dim, ==, 256u);
  f.template operator()<256>();
}

}  // namespace

void RopeKvStore(const RopeKvStoreParams& params, uint64_t* num_saturated, const Launch& launch) {
  const KvLayout& layout = params.kv.layout;
  KVS_CHECK(layout.dtype != KvCacheDType::kF32);
  auto* counter = reinterpret_cast<unsigned long long*>(num_saturated);
  static_assert(sizeof *counter == sizeof *num_saturated);
  DispatchHeadDim(layout.head_dim, [&]<uint32_t kHeadDim>() {
    const uint32_t threads = (params.num_heads + 2 * layout.num_kv_heads) * (kHeadDim / 16);
    const dim3 grid(params.num_tokens, (threads + kThreads - 1) / kThreads);
    DispatchAct(launch.act, [&]<class T>() {
      const auto kernel = params.kv.stats.largest_bits == nullptr
                              ? RopeKvStoreKernel<T, kHeadDim, false>
                              : RopeKvStoreKernel<T, kHeadDim, true>;
      LaunchKernel(kernel, grid, dim3(kThreads), 0, launch, params, counter);
    });
  });
}

}  // namespace kvs::gpu
