// The planner of decode attention, and the choice of its kernel.
#include "gpu/gpu_memory.h"
#include "gpu/paged_decode.h"
#include "gpu/paged_decode_instances.h"

namespace kvs::gpu {
namespace {

constexpr uint32_t kPlanThreads = 1024;

KVS_DEVICE DecodeSeq DescribeSeq(const PagedAttentionParams& params, uint32_t seq,
                                 uint32_t tile_tokens) {
  DecodeSeq out{params.seq_lens[seq], params.query_start_loc[seq], 0, 0, 0};
  const bool is_decode = params.query_start_loc[seq + 1] - out.query_row == 1;
  if (!is_decode || out.seq_len == 0) return out;
  if (params.window != 0 && out.seq_len > params.window) {
    out.first_tile = (out.seq_len - params.window) / tile_tokens;
  }
  out.num_tiles = (out.seq_len + tile_tokens - 1) / tile_tokens - out.first_tile;
  return out;
}

// The sum of `value` over the threads before this one; `total` over all. One block.
KVS_DEVICE uint32_t ExclusiveSum(uint32_t value, uint32_t* total) {
  __shared__ uint32_t sums[2][kPlanThreads];
  uint32_t from = 0;
  sums[0][threadIdx.x] = value;
  __syncthreads();
  for (uint32_t step = 1; step < kPlanThreads; step *= 2, from ^= 1) {
    const uint32_t mine = sums[from][threadIdx.x];
    sums[from ^ 1][threadIdx.x] =
        threadIdx.x >= step ? mine + sums[from][threadIdx.x - step] : mine;
    __syncthreads();
  }
  *total = sums[from][kPlanThreads - 1];
  const uint32_t sum = sums[from][threadIdx.x] - value;
  __syncthreads();
  return sum;
}

// Tokens of a tile, by the whole block: with half of the shape's, if then still no block has more
// than one tile, more blocks share the work.
KVS_DEVICE uint32_t ChooseTileTokens(const PagedAttentionParams& params, const DecodeShape& shape) {
  if (!shape.may_halve) return shape.tile_tokens;
  __shared__ uint32_t num_halves;
  if (threadIdx.x == 0) num_halves = 0;
  __syncthreads();
  for (uint32_t seq = threadIdx.x; seq < params.num_seqs; seq += kPlanThreads) {
    atomicAdd(&num_halves, DescribeSeq(params, seq, shape.tile_tokens / 2).num_tiles);
  }
  __syncthreads();
  const bool halve = num_halves * params.kv.layout.num_kv_heads <= shape.num_ctas;
  return halve ? shape.tile_tokens / 2 : shape.tile_tokens;
}

// What it reads was there before this step's kernels, and only kernels behind it read what it
// writes: it runs beside those in front, and waits for them at the end.
__global__ void __launch_bounds__(kPlanThreads)
    PlanDecodeKernel(const KVS_GRID_CONSTANT PagedAttentionParams params,
                     const KVS_GRID_CONSTANT DecodePlan plan) {
  AllowNextKernel();
  const uint32_t num_kv_heads = params.kv.layout.num_kv_heads;
  const uint32_t num_ctas = plan.shape.num_ctas;
  const uint32_t tile_tokens = ChooseTileTokens(params, plan.shape);
  uint32_t num_tiles = 0;  // of one KV head, so far
  for (uint32_t first = 0; first < params.num_seqs; first += kPlanThreads) {
    const uint32_t seq = first + threadIdx.x;
    DecodeSeq info{};
    if (seq < params.num_seqs) info = DescribeSeq(params, seq, tile_tokens);
    uint32_t total;
    const uint32_t before = ExclusiveSum(info.num_tiles, &total);
    info.tiles_before = num_tiles + before;
    if (seq < params.num_seqs) plan.seqs[seq] = info;
    num_tiles += total;
  }
  const uint32_t line = num_tiles * num_kv_heads;
  // One tile a piece is the least there is: with few tiles, more blocks finish sooner.
  const uint32_t piece_tiles = line > num_ctas ? (line + num_ctas - 1) / num_ctas : 1;
  if (threadIdx.x == 0) *plan.cut = {piece_tiles, tile_tokens};
  __syncthreads();

  const uint32_t num_pieces = (line + piece_tiles - 1) / piece_tiles;
  for (uint32_t cta = threadIdx.x; cta < num_ctas; cta += kPlanThreads) {
    DecodePiece piece{};
    if (cta < num_pieces) {
      piece.index = num_pieces - 1 - cta;
      const uint32_t begin = piece.index * piece_tiles;
      // The last sequence that starts at or before this piece and has tiles: those without any
      // start where the next one does.
      uint32_t low = 0, high = params.num_seqs;
      while (high - low > 1) {
        const uint32_t middle = (low + high) / 2;
        (plan.seqs[middle].tiles_before * num_kv_heads <= begin ? low : high) = middle;
      }
      const DecodeSeq info = plan.seqs[low];
      const uint32_t within = begin - info.tiles_before * num_kv_heads;
      piece.seq = low;
      piece.kv_head = within / info.num_tiles;
      piece.tile = info.first_tile + within % info.num_tiles;
      piece.info = info;
      piece.num_tiles = line - begin < piece_tiles ? line - begin : piece_tiles;
    }
    plan.pieces[cta] = piece;
  }
  __syncthreads();

  for (uint32_t i = threadIdx.x; i < num_ctas * kDecodePlannedRuns; i += kPlanThreads) {
    const DecodePiece& piece = plan.pieces[i / kDecodePlannedRuns];
    const uint32_t token = piece.tile * tile_tokens + i % kDecodePlannedRuns * kDecodeRun;
    const bool exists = piece.num_tiles != 0 && token < piece.info.seq_len;
    const size_t row = size_t{piece.seq} * params.max_blocks_per_seq;
    const uint32_t block = token >> params.kv.layout.BlockShift();
    plan.first_blocks[i] = exists ? params.block_tables[row + block].value : 0;
  }
  WaitForPreviousKernel();
}

struct Carver {
  uint8_t* base;
  size_t used = 0;
  template <class T>
  void Take(T*& out, size_t count) {
    out = reinterpret_cast<T*>(base + used);
    used += (count * sizeof(T) + 255) / 256 * 256;
  }
};

}  // namespace

Result<void> PagedDecode::Reserve(const BackendLimits& limits, const DeviceFacts& facts) {
  const uint32_t group = limits.num_heads / limits.num_kv_heads;
  const uint32_t max_ctas = static_cast<uint32_t>(facts.num_multiprocessors) * kDecodeMaxCtasPerSm;
  const auto carve = [&](uint8_t* base) {
    Carver carver{base};
    const size_t parts = size_t{max_ctas} * group;
    carver.Take(plan_.seqs, limits.max_num_seqs);
    carver.Take(plan_.pieces, max_ctas);
    carver.Take(plan_.first_blocks, size_t{max_ctas} * kDecodePlannedRuns);
    carver.Take(plan_.cut, 1);
    carver.Take(plan_.partial_out, parts * limits.head_dim / 4);
    carver.Take(plan_.partial_state, parts);
    return carver.used;
  };
  auto buffer = AllocateDevice(carve(nullptr), "attention plan");
  if (!buffer) return tl::unexpected(buffer.error());
  buffer_ = std::move(*buffer);
  carve(buffer_.as<uint8_t>());
  return {};
}

void PagedDecode::Plan(const PagedAttentionParams& params, const Launch& launch) {
  const KvLayout& layout = params.kv.layout;
  const auto shape =
      ChooseDecodeShape(layout.dtype, layout.head_dim, params.num_heads / layout.num_kv_heads,
                        params.num_seqs * layout.num_kv_heads, *launch.facts);
  KVS_CHECK(shape.has_value());
  plan_.shape = *shape;
  LaunchKernel(PlanDecodeKernel, dim3(1), dim3(kPlanThreads), 0, launch, params, plan_);
}

void PagedDecode::Run(const PagedAttentionParams& params, uint64_t* num_saturated,
                      const Launch& launch) {
  plan_.rope = {};
  if (params.rope != nullptr) {
    KVS_CHECK_OP(params.num_tokens, ==, params.num_seqs);
    KVS_CHECK(params.rope->kv.stats.largest_bits == nullptr);
    static_assert(sizeof(*plan_.rope.num_saturated) == sizeof(*num_saturated));
    plan_.rope = {params.rope->cos_sin,
                  params.rope->qkv_bias,
                  params.rope->q_norm,
                  params.rope->k_norm,
                  reinterpret_cast<unsigned long long*>(num_saturated),
                  params.rope->norm_eps};
  }
  const KvLayout& layout = params.kv.layout;
  const bool two_tiles = params.num_heads / layout.num_kv_heads > 8;
  for (const DecodeInstance& instance : kDecodeInstances) {
    if (instance.dtype == layout.dtype && instance.head_dim == layout.head_dim &&
        instance.two_head_tiles == two_tiles) {
      return instance.run(params, plan_, launch);
    }
  }
  KVS_CHECK(!"no decode attention kernel for this KV dtype and head_dim");
}

}  // namespace kvs::gpu
