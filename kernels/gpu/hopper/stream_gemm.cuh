// Compute capability 9.0: some tens of rows of x past a matrix W that is read once, at the speed of
// device memory. Optionally multiplies gate and up.
//
// A tile is kColumns rows of W, which become columns of the result: x is the left operand of a
// warpgroup's matrix instruction, 64 rows of it, and W the right one. One thread keeps stages of
// one chunk of their rows, kPanels times kBoxBytes bytes, on their way by the copy engine. It
// begins with W before the kernel in front has ended, as W depends on no kernel. Where there are
// few tiles, two CTAs, a cluster, share each: both have half of the columns, and then give each
// other half of their sums.
#pragma once

#include "gpu/hopper/bulk_copy.cuh"
#include "gpu/hopper/stream_gemm_shape.h"
#include "gpu/hopper/wgmma.cuh"
#include "gpu/linear_kernels.h"
#include "gpu/mma.cuh"

namespace kvs::gpu::hopper {

struct StreamGemmParams {
  void* out;  // [num_rows, num_outputs]
  uint32_t num_rows;
  uint32_t x_box_rows;  // num_rows, up to a multiple of 8
  uint32_t num_outputs;
  uint32_t num_tiles;
  uint32_t num_chunks;  // of a row of W
  uint32_t num_stages;
  uint32_t split;  // CTAs that share a tile: 1, or 2, which have one tile alone
  LinearFinish finish;
  bool out_is_f32;
};

static_assert(kPanelColumns * 2 == kBoxBytes);
inline constexpr uint32_t kGroupRows = 64;  // of x, a warpgroup's
inline constexpr uint32_t kMaxGemmStages = 14;
// Stages of W that are asked for before x is there: what is on its way here is the queue that reads
// of the kernels in front stand in.
inline constexpr uint32_t kEarlyStages = 4;

template <class T_, uint32_t kGroups_, uint32_t kColumns_>
struct GemmTraits {
  using T = T_;
  static constexpr uint32_t kGroups = kGroups_;    // warpgroups that multiply
  static constexpr uint32_t kColumns = kColumns_;  // of a tile
  static constexpr uint32_t kRows = kGroups * kGroupRows;
  static constexpr uint32_t kPanels = GemmPanels(kColumns, kRows);  // of a chunk
  static constexpr uint32_t kChunkBytes = kPanels * kBoxBytes;
  // Neighbouring stages that are asked for together: what their rows have of W lies side by side.
  static constexpr uint32_t kBatchedStages = kMaxGemmPanels / kPanels;
  static constexpr uint32_t kBlocks = kColumns / 8;
  static constexpr uint32_t kConsumers = kGroups * kWarpgroupThreads;
  static constexpr uint32_t kThreads = kConsumers + kWarpSize;
  static constexpr uint32_t kHalfBytes = kColumns / 2 * kChunkBytes;  // of W
  static constexpr uint32_t kWeightBytes = 2 * kHalfBytes;
  static constexpr uint32_t kStageBytes = kWeightBytes + kRows * kChunkBytes;
  // Half of a CTA's sums, for the other one of its cluster.
  static constexpr uint32_t kExchangeBytes = kRows * kColumns / 2 * sizeof(float);
  static_assert(kColumns % 32 == 0 && kColumns <= 256 && kHalfBytes % 1024 == 0);
};

struct GemmShared {
  SharedBarrier full[kMaxGemmStages];
  SharedBarrier empty[kMaxGemmStages];
};

// What a CTA works on, one after the other: chunks of its tiles.
template <class Traits>
struct GemmItems {
  uint32_t rank;  // among those that share a tile
  uint32_t first_tile, tile_step;
  uint32_t first_chunk, num_chunks;  // of each tile

  KVS_DEVICE explicit GemmItems(const StreamGemmParams& params) {
    rank = blockIdx.x % params.split;
    first_tile = blockIdx.x / params.split;
    tile_step = gridDim.x / params.split;
    first_chunk = params.num_chunks * rank / params.split;
    num_chunks = params.num_chunks * (rank + 1) / params.split - first_chunk;
  }

  // The outputs of a tile begin there. With kSiluMul each has two columns, half a tile apart.
  KVS_DEVICE static uint32_t FirstOutput(const StreamGemmParams& params, uint32_t tile) {
    return tile *
           (params.finish == LinearFinish::kSiluMul ? Traits::kColumns / 2 : Traits::kColumns);
  }
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// A barrier of all threads of a cluster that have not ended.
KVS_DEVICE void ArriveAtCluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
KVS_DEVICE void WaitForCluster() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

template <class Traits>
struct GemmProducer {
  const StreamGemmParams& params;
  const TensorMap& weight_map;
  const TensorMap& x_map;
  GemmShared& shared;
  uint8_t* stages;
  GemmItems<Traits> items;
  uint32_t tile = 0, chunk = 0;  // the next
  uint32_t early = 0;            // chunks that Begin has asked for
  RingPlace at{.parity = 0};     // as its consumers count

  KVS_DEVICE void CopyWeight(uint32_t slot) const {
    SharedBarrier& full = shared.full[slot];
    uint8_t* const to = stages + slot * Traits::kStageBytes;
    const uint32_t panel = (items.first_chunk + chunk) * Traits::kPanels;
    const uint32_t row = items.FirstOutput(params, tile);
    const bool pairs = params.finish == LinearFinish::kSiluMul;
    full.ArriveExpecting((Traits::kColumns + params.x_box_rows) * Traits::kChunkBytes);
    CopyTile(to, weight_map, panel, row, full);
    CopyTile(to + Traits::kHalfBytes, weight_map, panel,
             row + (pairs ? params.num_outputs : Traits::kColumns / 2), full);
  }
  KVS_DEVICE void CopyX(uint32_t slot, uint32_t of_chunk) const {
    uint8_t* const to = stages + slot * Traits::kStageBytes + Traits::kWeightBytes;
#pragma unroll
    for (uint32_t i = 0; i < Traits::kPanels; ++i) {
      CopyBox(to + i * Traits::kRows * kBoxBytes, x_map,
              (items.first_chunk + of_chunk) * Traits::kChunkBytes + i * kBoxBytes, 0,
              shared.full[slot]);
    }
  }

  // By one thread, like all that follows. Makes the barriers, and asks for what depends on no
  // kernel.
  KVS_DEVICE void Begin() {
    PrefetchMap(weight_map);
    PrefetchMap(x_map);
    for (uint32_t i = 0; i < params.num_stages; ++i) {
      shared.full[i].Init(1);
      shared.empty[i].Init(Traits::kConsumers / kWarpSize);
    }
    FenceInit();
    tile = items.first_tile;
    if (tile >= params.num_tiles) return;
    early = min(min(kEarlyStages, params.num_stages), items.num_chunks);
    for (chunk = 0; chunk < early; ++chunk) CopyWeight(chunk);
  }

  KVS_DEVICE void Produce() {
    WaitForPreviousKernel();
    if (tile >= params.num_tiles) return;
    for (uint32_t i = 0; i < early; ++i) CopyX(i, i);
    for (uint32_t i = 0; i < early; ++i) at.Advance(params.num_stages);
    while (true) {
      while (chunk < items.num_chunks) {
        CopyBatch(min(Traits::kBatchedStages, items.num_chunks - chunk));
      }
      tile += items.tile_step;
      if (tile >= params.num_tiles) return;
      chunk = 0;
    }
  }

 private:
  KVS_DEVICE void CopyBatch(uint32_t count) {
    RingPlace free = at;
    for (uint32_t i = 0; i < count; ++i, free.Advance(params.num_stages)) {
      shared.empty[free.slot].Wait(free.parity ^ 1);
    }
    for (uint32_t i = 0; i < count; ++i, ++chunk, at.Advance(params.num_stages)) {
      CopyWeight(at.slot);
      CopyX(at.slot, chunk);
    }
  }
};

template <class Traits>
struct GemmConsumer {
  using T = typename Traits::T;
  const StreamGemmParams& params;
  GemmShared& shared;
  const uint8_t* stages;
  uint8_t* exchange;  // kExchangeBytes
  GemmItems<Traits> items;
  RingPlace at;
  float sums[Traits::kBlocks][4];

  template <uint32_t kFirst, uint32_t kCount>
  KVS_DEVICE void MultiplyBlocks(const uint32_t (&x)[4], uint64_t weight) {
    auto& part = reinterpret_cast<float(&)[kCount][4]>(sums[kFirst]);
    Multiply<T, false>(part, x, Advance(weight, kFirst * 8 * Traits::kChunkBytes), true);
  }

  KVS_DEVICE void MultiplyChunk() {
    const uint32_t lane = threadIdx.x % kWarpSize, row = threadIdx.x / kWarpSize * 16 + lane % 16;
    const uint8_t* const stage = stages + at.slot * Traits::kStageBytes;
    const uint8_t* const x_row = stage + Traits::kWeightBytes + row * kBoxBytes;
    constexpr uint32_t kPanelSteps = kBoxBytes / 32, kSteps = Traits::kPanels * kPanelSteps;
    uint32_t x[kSteps][4];
    shared.full[at.slot].Wait(at.parity);
#pragma unroll
    for (uint32_t k = 0; k < kSteps; ++k) {
      // Rows of x that are not there are whatever lies here, and become rows that none stores.
      const uint32_t panel = k / kPanelSteps, in_panel = k % kPanelSteps;
      LoadMatrices(x[k], x_row + panel * Traits::kRows * kBoxBytes +
                             ((2 * in_panel + lane / 16) ^ (row & 7)) * 16);
    }
    const uint64_t weight = DescribeTile(stage, 0, 8 * Traits::kChunkBytes);
    BeginProducts();
#pragma unroll
    for (uint32_t k = 0; k < kSteps; ++k) {
      constexpr uint32_t kBlocks = Traits::kBlocks;
      const uint64_t columns =
          Advance(weight, k / kPanelSteps * 8 * kBoxBytes + k % kPanelSteps * 32);
      if constexpr (kBlocks >= 16) MultiplyBlocks<0, 16>(x[k], columns);
      if constexpr (kBlocks >= 32) MultiplyBlocks<16, 16>(x[k], columns);
      if constexpr (kBlocks % 16 >= 8) MultiplyBlocks<kBlocks / 16 * 16, 8>(x[k], columns);
      if constexpr (kBlocks % 8 >= 4) MultiplyBlocks<kBlocks / 8 * 8, 4>(x[k], columns);
    }
    CommitProducts();
    WaitProducts<0>();
    FenceRegisters(sums);
    if (lane == 0) shared.empty[at.slot].Arrive();
    at.Advance(params.num_stages);
  }

  // Of this thread's two rows of results, the one that elements kFirst and kFirst + 1 of its sums
  // are of.
  template <uint32_t kFirst>
  KVS_DEVICE void StoreRow(uint32_t tile) const {
    const uint32_t row =
        threadIdx.x / kWarpSize * 16 + threadIdx.x % kWarpSize / 4 + kFirst / 2 * 8;
    const uint32_t output = items.FirstOutput(params, tile) + threadIdx.x % 4 * 2;
    if (row >= params.num_rows || output >= params.num_outputs) return;
    const uint32_t left = params.num_outputs - output;  // in the row
    const size_t index = size_t{row} * params.num_outputs + output;
    // Calls store(n, place) for the first kCount blocks.
    const auto for_blocks = [&]<uint32_t kCount>(auto* place, auto&& store) {
#pragma unroll
      for (uint32_t n = 0; n < kCount; ++n) {
        if (n * 8 < left) store(n, place + n * 8);
      }
    };
    if (params.out_is_f32) {
      return for_blocks.template operator()<Traits::kBlocks>(
          static_cast<float*>(params.out) + index, [&](uint32_t n, float* place) {
            *reinterpret_cast<float2*>(place) = {sums[n][kFirst], sums[n][kFirst + 1]};
          });
    }
    T* const out = static_cast<T*>(params.out) + index;
    if (params.finish == LinearFinish::kSiluMul) {
      return for_blocks.template operator()<Traits::kBlocks / 2>(out, [&](uint32_t n, T* place) {
        const auto& up = sums[n + Traits::kBlocks / 2];
        *reinterpret_cast<uint32_t*>(place) = Pack2<T>(Gated(sums[n][kFirst], up[kFirst]),
                                                       Gated(sums[n][kFirst + 1], up[kFirst + 1]));
      });
    }
    for_blocks.template operator()<Traits::kBlocks>(out, [&](uint32_t n, T* place) {
      *reinterpret_cast<uint32_t*>(place) = Pack2<T>(sums[n][kFirst], sums[n][kFirst + 1]);
    });
  }

  // Rounds where the separate operations would.
  KVS_DEVICE static float Gated(float gate, float up) {
    gate = ToFloat(FromFloat<T>(gate));
    return gate / (1.0f + __expf(-gate)) * ToFloat(FromFloat<T>(up));
  }

  // Gives the other CTA this thread's sums of the row that the same thread there stores, takes
  // those of its own, and stores them.
  template <uint32_t kMine, uint32_t kOther>
  KVS_DEVICE void ExchangeAndStore(uint32_t tile) {
    const uint32_t place = SharedAddress(exchange) + threadIdx.x * sizeof(float2);
    uint32_t there;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;"
                 : "=r"(there)
                 : "r"(place), "r"(items.rank ^ 1));
    WaitForCluster();  // It has begun, and its shared memory is there.
#pragma unroll
    for (uint32_t n = 0; n < Traits::kBlocks; ++n) {
      asm volatile("st.shared::cluster.v2.f32 [%0], {%1, %2};" ::"r"(there + n * kPlaneBytes),
                   "f"(sums[n][kOther]), "f"(sums[n][kOther + 1])
                   : "memory");
    }
    ArriveAtCluster();
    WaitForCluster();
#pragma unroll
    for (uint32_t n = 0; n < Traits::kBlocks; ++n) {
      const float2 part = *reinterpret_cast<const float2*>(exchange + n * kPlaneBytes +
                                                           threadIdx.x * sizeof(float2));
      sums[n][kMine] += part.x;
      sums[n][kMine + 1] += part.y;
    }
    StoreRow<kMine>(tile);
  }

  KVS_DEVICE void Consume() {
    for (uint32_t tile = items.first_tile; tile < params.num_tiles; tile += items.tile_step) {
#pragma unroll
      for (uint32_t n = 0; n < Traits::kBlocks; ++n) {
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) sums[n][i] = 0;
      }
      FenceRegisters(sums);
      for (uint32_t chunk = 0; chunk < items.num_chunks; ++chunk) MultiplyChunk();
      if (params.split == 1) {
        StoreRow<0>(tile);
        StoreRow<2>(tile);
      } else if (items.rank == 0) {
        ExchangeAndStore<0, 2>(tile);
      } else {
        ExchangeAndStore<2, 0>(tile);
      }
    }
  }

 private:
  static constexpr uint32_t kPlaneBytes = Traits::kConsumers * sizeof(float2);
};

#endif

template <class Traits>
__global__ void __launch_bounds__(Traits::kThreads, 1)
    StreamGemmKernel(const KVS_GRID_CONSTANT TensorMap weight_map,
                     const KVS_GRID_CONSTANT TensorMap x_map,
                     const KVS_GRID_CONSTANT StreamGemmParams params) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) uint8_t gemm_shared[];
  __shared__ GemmShared shared;
  AllowNextKernel();
  if (params.split == 2) ArriveAtCluster();
  const GemmItems<Traits> items(params);
  if (threadIdx.x >= Traits::kConsumers) {
    GemmProducer<Traits> producer{params, weight_map, x_map, shared, gemm_shared, items};
    const bool leads = threadIdx.x == Traits::kConsumers;
    if (leads) producer.Begin();
    __syncthreads();
    if (leads) producer.Produce();
  } else {
    __syncthreads();
    GemmConsumer<Traits>{params,      shared,
                         gemm_shared, gemm_shared + params.num_stages * Traits::kStageBytes,
                         items,       RingPlace{.parity = 0},
                         {}}
        .Consume();
  }
#else
  __trap();  // Chosen for compute capability 9.0 alone.
#endif
}

}  // namespace kvs::gpu::hopper
