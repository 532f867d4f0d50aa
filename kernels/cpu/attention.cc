#include "cpu/attention.h"

#include <algorithm>
#include <string>

#include "cpu/memory.h"
#include "kvserve/check.h"
#include "kvserve/float_bits.h"

namespace kvs::cpu {
namespace {

// Units per thread at least, so that threads finish together.
constexpr uint32_t kUnitsPerThread = 4;

// A query tile is not cut into smaller ones than this.
constexpr uint32_t kMinQueryRows = 32;

constexpr uint32_t DivUp(uint32_t a, uint32_t b) { return (a + b - 1) / b; }

void FillTable(float (*decode)(uint8_t), Fp8Table* table) {
  for (uint32_t code = 0; code < 256; ++code) {
    table->values[code] = decode(static_cast<uint8_t>(code));
    if (code < 128) {
      const uint16_t bf16 = FloatToBf16(table->values[code]);
      table->bf16_low[code] = static_cast<uint8_t>(bf16);
      table->bf16_high[code] = static_cast<uint8_t>(bf16 >> 8);
    }
  }
}

// The first range of which the row at `position` sees something.
uint32_t FirstRange(uint32_t position, uint32_t window) {
  return window == 0 || position < window ? 0 : (position - window + 1) / kRangePositions;
}

}  // namespace

AttentionOp::AttentionOp(const AttentionKernels& kernels) : kernels_(kernels) {
  FillTable(&F8E4M3ToFloat, &e4m3_);
  FillTable(&F8E5M2ToFloat, &e5m2_);
}

Result<void> AttentionOp::Reserve(const BackendLimits& limits, uint32_t num_threads) {
  const uint32_t group_size = limits.num_heads / limits.num_kv_heads;
  if (group_size > kernels_.query_rows) {
    return Error(Code::kInvalidArgument, "at most " + std::to_string(kernels_.query_rows) +
                                             " query heads may share a KV head, got " +
                                             std::to_string(group_size));
  }
  const size_t padded_dim = PaddedDim(limits.head_dim);
  const size_t q_bytes = DivUp(limits.head_dim, kQueryBlockDims) * kMaxQueryRows * kQueryRowBytes;
  const size_t tile_bytes = padded_dim * kUnpackedDimBytes;
  const size_t state_bytes = kernels_.query_rows * StateStride(limits.head_dim) * sizeof(float);
  const size_t score_bytes = kernels_.query_rows * kScoreRowBytes;
  const size_t thread_bytes = q_bytes + score_bytes + tile_bytes + 2 * state_bytes;
  // Splitting pays only while there are fewer tiles than threads want.
  partials_capacity_ = size_t{std::min(limits.max_num_seqs, num_threads * kUnitsPerThread)} *
                       limits.num_heads * DivUp(limits.max_model_len, kRangePositions);
  const size_t partial_bytes = partials_capacity_ * StateStride(limits.head_dim) * sizeof(float);

  auto memory =
      AllocatePages(num_threads * thread_bytes + partial_bytes, "attention scratch", Pages::kNow);
  if (!memory) return tl::unexpected<Status>(std::move(memory).error());
  memory_ = std::move(*memory);
  uint8_t* next = memory_.as<uint8_t>();
  const auto take = [&](size_t bytes) {
    uint8_t* taken = next;
    next += bytes;
    return taken;
  };
  scratch_.clear();
  for (uint32_t thread = 0; thread < num_threads; ++thread) {
    AttentionScratch scratch;
    scratch.q = take(q_bytes);
    scratch.scores = take(score_bytes);
    scratch.unpacked = take(tile_bytes);
    scratch.partial = reinterpret_cast<float*>(take(state_bytes));
    scratch.state = reinterpret_cast<float*>(take(state_bytes));
    scratch_.push_back(scratch);
  }
  partials_ = reinterpret_cast<float*>(next);
  const size_t max_tiles =
      limits.max_num_seqs + limits.max_num_batched_tokens / (kernels_.query_rows / group_size);
  // Cut smaller, a step has fewer than three tiles a thread. Splitting them makes fewer than twice
  // as many units more as are wanted.
  const size_t most_tiles = max_tiles + 3 * size_t{num_threads};
  units_.reserve(most_tiles + 2 * size_t{kUnitsPerThread} * num_threads);
  split_tiles_.reserve(most_tiles);
  return {};
}

void AttentionOp::PlanTile(const Unit& tile, uint32_t num_heads, uint32_t max_ranges) {
  const uint32_t group_rows = tile.num_tokens * num_heads;  // rows of all KV heads
  const size_t partial_rows = size_t{group_rows} * tile.num_ranges();
  Unit unit = tile;
  if (tile.num_ranges() <= max_ranges || partials_used_ + partial_rows > partials_capacity_) {
    units_.push_back(unit);
    return;
  }
  unit.partials = partials_used_;
  partials_used_ += partial_rows;
  split_tiles_.push_back(unit);
  for (uint32_t range = tile.tile_first_range; range < tile.tile_end_range; range += max_ranges) {
    unit.first_range = range;
    unit.end_range = std::min(range + max_ranges, tile.tile_end_range);
    units_.push_back(unit);
  }
}

void AttentionOp::PlanUnits(const PagedAttentionParams& params, uint32_t num_threads) {
  const uint32_t num_kv_heads = params.kv.layout.num_kv_heads;
  const uint32_t group_size = params.num_heads / num_kv_heads;
  const uint64_t wanted_units = uint64_t{num_threads} * kUnitsPerThread;
  uint32_t per_tile = kernels_.query_rows / group_size;
  units_.clear();
  split_tiles_.clear();
  partials_used_ = 0;
  // Calls fn with every tile, those with most ranges first within a sequence.
  const auto for_each_tile = [&](const auto& fn) {
    for (uint32_t seq = 0; seq < params.num_seqs; ++seq) {
      const uint32_t num_new = params.query_start_loc[seq + 1] - params.query_start_loc[seq];
      const uint32_t first_position = params.seq_lens[seq] - num_new;
      for (uint32_t index = DivUp(num_new, per_tile); index-- > 0;) {
        const uint32_t first = index * per_tile;
        const uint32_t count = std::min(per_tile, num_new - first);
        const uint32_t begin = FirstRange(first_position + first, params.window);
        const uint32_t end = DivUp(first_position + first + count, kRangePositions);
        fn(Unit{seq, first, count, begin, end, begin, end, 0});
      }
    }
  };
  const auto count_ranges = [&] {
    uint64_t ranges = 0;
    for_each_tile([&](const Unit& tile) { ranges += uint64_t{tile.num_ranges()} * num_kv_heads; });
    return ranges;
  };
  uint64_t total_ranges = count_ranges();
  // Smaller tiles unpack keys and values more often, but on threads that would have nothing to do.
  while (total_ranges < num_threads && per_tile / 2 * group_size >= kMinQueryRows) {
    per_tile /= 2;
    total_ranges = count_ranges();
  }
  const auto max_ranges = static_cast<uint32_t>(std::max<uint64_t>(1, total_ranges / wanted_units));
  for_each_tile([&](const Unit& tile) {
    // One thread gains nothing from a split.
    PlanTile(tile, params.num_heads, num_threads == 1 ? tile.num_ranges() : max_ranges);
  });
}

QueryTile AttentionOp::MakeTile(const PagedAttentionParams& params, const Unit& unit,
                                uint32_t kv_head) const {
  const KvLayout& layout = params.kv.layout;
  const uint32_t group_size = params.num_heads / layout.num_kv_heads;
  const size_t element = SizeOf(layout.dtype);
  const size_t q_stride = (size_t{params.num_heads} + 2 * layout.num_kv_heads) * layout.head_dim;
  const uint32_t token = params.query_start_loc[unit.seq] + unit.first_token;
  const uint32_t num_new = params.query_start_loc[unit.seq + 1] - params.query_start_loc[unit.seq];
  return {
      .q = static_cast<const float*>(params.qkv) + token * q_stride +
           size_t{kv_head} * group_size * layout.head_dim,
      .q_token_stride = q_stride,
      .kv = static_cast<const uint8_t*>(params.kv.data) +
            layout.KOffset(BlockId{0}, kv_head) * element,
      .block_bytes = layout.LayerBlockBytes(),
      .v_bytes = layout.PlaneElements() * element,
      .blocks = params.block_tables + size_t{unit.seq} * params.max_blocks_per_seq,
      .fp8 = layout.dtype == KvCacheDType::kF8E4M3 ? &e4m3_ : &e5m2_,
      .dtype = layout.dtype,
      .block_size = layout.block_size,
      .head_dim = layout.head_dim,
      .group_size = group_size,
      .first_position = params.seq_lens[unit.seq] - num_new + unit.first_token,
      .num_tokens = unit.num_tokens,
      .scale = params.sm_scale * params.kv.k_scale[kv_head],
      .window = params.window,
  };
}

float* AttentionOp::Partial(const QueryTile& tile, const Unit& unit, uint32_t kv_head,
                            uint32_t range) const {
  const size_t index = size_t{kv_head} * unit.num_ranges() + (range - unit.tile_first_range);
  return partials_ + (unit.partials + index * tile.num_rows()) * StateStride(tile.head_dim);
}

void AttentionOp::Finish(const PagedAttentionParams& params, const Unit& unit,
                         const QueryTile& tile, uint32_t kv_head, const float* state) const {
  const uint32_t token = params.query_start_loc[unit.seq] + unit.first_token;
  for (uint32_t row = 0; row < tile.num_rows(); ++row) {
    const size_t head = size_t{kv_head} * tile.group_size + row % tile.group_size;
    const size_t out_row = size_t{token + row / tile.group_size} * params.num_heads + head;
    kernels_.finish(state + row * StateStride(tile.head_dim), tile.head_dim,
                    params.kv.v_scale[kv_head],
                    static_cast<float*>(params.out) + out_row * tile.head_dim);
  }
}

void AttentionOp::Absorb(const QueryTile& tile, uint32_t range, const float* partial,
                         float* state) const {
  const size_t stride = StateStride(tile.head_dim);
  const uint32_t fresh_row = tile.FreshRow(range);
  kernels_.merge(state, partial, tile.FirstRow(range), fresh_row, tile.head_dim);
  std::copy(partial + fresh_row * stride, partial + tile.EndRow(range) * stride,
            state + fresh_row * stride);
}

void AttentionOp::RunUnit(const PagedAttentionParams& params, const Unit& unit, uint32_t kv_head,
                          const AttentionScratch& scratch) {
  const QueryTile tile = MakeTile(params, unit, kv_head);
  kernels_.pack_queries(tile, scratch);
  for (uint32_t range = unit.first_range; range < unit.end_range; ++range) {
    if (unit.split()) {
      kernels_.attend(tile, range, scratch, Partial(tile, unit, kv_head, range));
    } else if (tile.FreshRow(range) == tile.FirstRow(range)) {
      kernels_.attend(tile, range, scratch, scratch.state);
    } else {
      kernels_.attend(tile, range, scratch, scratch.partial);
      Absorb(tile, range, scratch.partial, scratch.state);
    }
  }
  if (!unit.split()) Finish(params, unit, tile, kv_head, scratch.state);
}

void AttentionOp::MergeSplitTile(const PagedAttentionParams& params, const Unit& unit,
                                 uint32_t kv_head, const AttentionScratch& scratch) {
  const QueryTile tile = MakeTile(params, unit, kv_head);
  for (uint32_t range = unit.tile_first_range; range < unit.tile_end_range; ++range) {
    Absorb(tile, range, Partial(tile, unit, kv_head, range), scratch.state);
  }
  Finish(params, unit, tile, kv_head, scratch.state);
}

void AttentionOp::Run(const PagedAttentionParams& params, ThreadPool& pool) {
  const uint32_t num_kv_heads = params.kv.layout.num_kv_heads;
  const size_t capacity = units_.capacity();
  PlanUnits(params, pool.num_threads());
  KVS_CHECK_OP(units_.capacity(), ==, capacity);
  pool.ParallelFor(
      static_cast<uint32_t>(units_.size()) * num_kv_heads, [&](uint32_t task, uint32_t thread) {
        RunUnit(params, units_[task / num_kv_heads], task % num_kv_heads, scratch_[thread]);
      });
  pool.ParallelFor(static_cast<uint32_t>(split_tiles_.size()) * num_kv_heads,
                   [&](uint32_t task, uint32_t thread) {
                     MergeSplitTile(params, split_tiles_[task / num_kv_heads], task % num_kv_heads,
                                    scratch_[thread]);
                   });
}

}  // namespace kvs::cpu
