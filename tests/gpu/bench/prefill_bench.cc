// Prefill attention over shuffled pages: milliseconds a layer and floating-point operations a
// second, of the device's best path beside the portable one. Shape of Llama-3.1-8B: 32 query heads,
// 8 KV heads, 128.
#include <cstdio>

#include "gpu/bench/bench.h"
#include "gpu/paged_problem.h"

namespace kvs::gpu {
namespace {

constexpr uint32_t kHeads = 32, kKvHeads = 8, kHeadDim = 128, kBlock = 16, kLayers = 4;

struct Shape {
  uint32_t num_seqs;
  uint32_t num_new;     // tokens of each
  uint32_t num_cached;  // before them
};

std::vector<BlockId> ShuffledBlocks(uint32_t count) {
  std::vector<BlockId> ids;
  for (uint32_t i = 1; i <= count; ++i) ids.push_back(BlockId{i});
  std::mt19937_64 random(1);
  std::shuffle(ids.begin(), ids.end(), random);
  return ids;
}

std::vector<uint32_t> Multiples(uint32_t count, uint32_t of) {
  std::vector<uint32_t> out(count);
  for (uint32_t i = 0; i < count; ++i) out[i] = i * of;
  return out;
}

class PrefillProblem {
 public:
  PrefillProblem(KvCacheDType dtype, const Shape& shape)
      : shape_(shape),
        layout_{1, kKvHeads, kHeadDim, kBlock, dtype},
        blocks_per_seq_((shape.num_new + shape.num_cached + kBlock - 1) / kBlock),
        layer_bytes_((size_t{shape.num_seqs} * blocks_per_seq_ + 1) * layout_.LayerBlockBytes()),
        cache_(layer_bytes_ * kLayers),
        scales_(std::vector<float>(2 * kKvHeads, 1.0f)),
        tables_(ShuffledBlocks(shape.num_seqs * blocks_per_seq_)),
        starts_(Multiples(shape.num_seqs + 1, shape.num_new)),
        seq_lens_(std::vector<uint32_t>(shape.num_seqs, shape.num_new + shape.num_cached)),
        qkv_(size_t{shape.num_seqs} * shape.num_new * (kHeads + 2 * kKvHeads) * kHeadDim),
        out_(size_t{shape.num_seqs} * shape.num_new * kHeads * kHeadDim) {
    FillNormal(cache_.data(), cache_.size() / SizeOf(layout_.dtype), layout_.dtype, 1);
    FillNormal(qkv_.data(), qkv_.size(), KvCacheDType::kBf16, 2);
  }

  const KvLayout& layout() const { return layout_; }
  PagedAttentionParams Params(size_t layer) const {
    PagedAttentionParams params{};
    params.qkv = qkv_.data();
    params.out = out_.data();
    params.kv = {cache_.data() + layer * layer_bytes_, scales_.data(), scales_.data() + kKvHeads,
                 layout_};
    params.block_tables = tables_.data();
    params.query_start_loc = starts_.data();
    params.seq_lens = seq_lens_.data();
    params.num_seqs = shape_.num_seqs;
    params.num_tokens = shape_.num_seqs * shape_.num_new;
    params.num_heads = kHeads;
    params.max_blocks_per_seq = blocks_per_seq_;
    params.sm_scale = 0.08838835f;
    return params;
  }
  // Multiplications and additions of both products, over the positions that each row sees.
  double Operations() const {
    const double seen =
        shape_.num_new * (shape_.num_cached + (double{1} + shape_.num_new) / 2) * shape_.num_seqs;
    return 4.0 * kHeadDim * kHeads * seen;
  }

 private:
  const Shape shape_;
  const KvLayout layout_;
  const uint32_t blocks_per_seq_;
  const size_t layer_bytes_;
  const DeviceArray<uint8_t> cache_;
  const DeviceArray<float> scales_;
  const DeviceArray<BlockId> tables_;
  const DeviceArray<uint32_t> starts_, seq_lens_;
  const DeviceArray<uint16_t> qkv_, out_;
};

double Microseconds(const PrefillProblem& problem, PrefillPath path) {
  Launch launch = TestLaunch(DType::kBf16);
  launch.dependent = true;
  const auto params = problem.Params(0);
  const PrefillMemory memory(params, path, launch.facts->num_multiprocessors / kKvHeads);
  const PrefillTiles plan = memory.tiles();
  PlanPrefill(params, 1, plan, launch);
  KVS_GPU(DeviceSynchronize());
  std::vector<std::function<void(const Launch&)>> launches;
  for (size_t i = 0; i < kLayers; ++i) {
    launches.push_back([&, i](const Launch& on) { PagedPrefill(problem.Params(i), plan, on); });
  }
  return MicrosecondsPerLaunch(launches, launch);
}

}  // namespace

void PrefillBench(const Ceilings&) {
  std::printf("\nprefill attention, 32 query heads, 8 KV heads, head_dim 128, blocks of 16\n");
  std::printf("%4s %6s %6s | %11s | %8s %8s | %8s %8s | %8s\n", "seqs", "new", "cached",
              "portable ms", "BF16 ms", "TFLOP/s", "FP8 ms", "TFLOP/s", "FP8/BF16");
  const Shape shapes[] = {{1, 1024, 0},   {1, 8192, 0},    {1, 32768, 0},
                          {4, 2048, 0},   {1, 16, 8192},   {1, 64, 8192},
                          {1, 512, 8192}, {1, 2048, 8192}, {32, 512, 1024}};
  for (const Shape& shape : shapes) {
    const PrefillProblem bf16(KvCacheDType::kBf16, shape), fp8(KvCacheDType::kF8E4M3, shape);
    const PrefillPath best = BestPrefillPath(bf16.layout(), *TestLaunch(DType::kBf16).facts);
    const double portable = Microseconds(bf16, PrefillPath::kPortable);
    const double bf16_us = Microseconds(bf16, best);
    const double fp8_us = Microseconds(fp8, best);
    std::printf("%4u %6u %6u | %11.3f | %8.3f %8.0f | %8.3f %8.0f | %8.2f\n", shape.num_seqs,
                shape.num_new, shape.num_cached, portable / 1e3, bf16_us / 1e3,
                bf16.Operations() / bf16_us / 1e6, fp8_us / 1e3, fp8.Operations() / fp8_us / 1e6,
                fp8_us / bf16_us);
  }
}

}  // namespace kvs::gpu
