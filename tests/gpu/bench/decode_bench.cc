// Decode attention over shuffled pages: microseconds a layer, bytes of K and V read a second, and
// the share of the device's read bandwidth. Shape of Llama-3.1-8B: 32 query heads, 8 KV heads, 128.
#include <cstdio>
#include <memory>

#include "gpu/bench/bench.h"
#include "gpu/paged_decode.h"
#include "kvserve/kernel_params.h"

namespace kvs::gpu {
namespace {

constexpr uint32_t kHeads = 32, kKvHeads = 8, kHeadDim = 128, kBlock = 16;

// Several layers of one cache, so that no layer is left in the second-level cache.
class DecodeProblem {
 public:
  DecodeProblem(KvCacheDType dtype, uint32_t num_seqs, uint32_t seq_len)
      : num_seqs_(num_seqs),
        seq_len_(seq_len),
        layout_{1, kKvHeads, kHeadDim, kBlock, dtype},
        blocks_per_seq_((seq_len + kBlock - 1) / kBlock),
        layer_bytes_((size_t{num_seqs} * blocks_per_seq_ + 1) * layout_.LayerBlockBytes()),
        num_layers_(std::min<size_t>(32, (size_t{400} << 20) / layer_bytes_ + 2)),
        cache_(layer_bytes_ * num_layers_),
        scales_(std::vector<float>(2 * kKvHeads, 1.0f)),
        tables_(MakeTables()),
        starts_(Counting(num_seqs + 1)),
        seq_lens_(std::vector<uint32_t>(num_seqs, seq_len)),
        qkv_(size_t{num_seqs} * (kHeads + 2 * kKvHeads) * kHeadDim),
        out_(size_t{num_seqs} * kHeads * kHeadDim) {
    FillNormal(cache_.data(), cache_.size() / SizeOf(layout_.dtype), layout_.dtype, 1);
    FillNormal(qkv_.data(), qkv_.size(), KvCacheDType::kBf16, 2);
  }

  size_t num_layers() const { return num_layers_; }
  double kv_bytes() const {
    return 2.0 * num_seqs_ * seq_len_ * kKvHeads * kHeadDim * SizeOf(layout_.dtype);
  }
  PagedAttentionParams Params(size_t layer) const {
    PagedAttentionParams params{};
    params.qkv = qkv_.data();
    params.out = out_.data();
    params.kv = {cache_.data() + layer * layer_bytes_, scales_.data(), scales_.data() + kKvHeads,
                 layout_};
    params.block_tables = tables_.data();
    params.query_start_loc = starts_.data();
    params.seq_lens = seq_lens_.data();
    params.num_seqs = num_seqs_;
    params.num_tokens = num_seqs_;
    params.num_heads = kHeads;
    params.max_blocks_per_seq = blocks_per_seq_;
    params.sm_scale = 0.08838835f;
    return params;
  }

 private:
  std::vector<BlockId> MakeTables() const {
    std::vector<BlockId> ids;
    for (uint32_t i = 1; i <= num_seqs_ * blocks_per_seq_; ++i) ids.push_back(BlockId{i});
    std::mt19937_64 random(1);
    std::shuffle(ids.begin(), ids.end(), random);
    return ids;
  }
  static std::vector<uint32_t> Counting(uint32_t count) {
    std::vector<uint32_t> out(count);
    for (uint32_t i = 0; i < count; ++i) out[i] = i;
    return out;
  }

  const uint32_t num_seqs_, seq_len_;
  const KvLayout layout_;
  const uint32_t blocks_per_seq_;
  const size_t layer_bytes_, num_layers_;
  const DeviceArray<uint8_t> cache_;
  const DeviceArray<float> scales_;
  const DeviceArray<BlockId> tables_;
  const DeviceArray<uint32_t> starts_, seq_lens_;
  const DeviceArray<uint16_t> qkv_, out_;
};

double Measure(KvCacheDType dtype, uint32_t num_seqs, uint32_t seq_len, bool dependent,
               double* kv_bytes) {
  const DecodeProblem problem(dtype, num_seqs, seq_len);
  Launch launch = TestLaunch(DType::kBf16);
  launch.dependent = dependent && launch.facts->major >= 9;  // elsewhere nothing begins early
  PagedDecode decode;
  BackendLimits limits{};
  limits.max_num_seqs = num_seqs;
  limits.num_heads = kHeads;
  limits.num_kv_heads = kKvHeads;
  limits.head_dim = kHeadDim;
  KVS_CHECK(decode.Reserve(limits, *launch.facts).has_value());
  decode.Plan(problem.Params(0), launch);
  KVS_GPU(DeviceSynchronize());
  std::vector<std::function<void(const Launch&)>> launches;
  for (size_t i = 0; i < std::max<size_t>(20, problem.num_layers()); ++i) {
    launches.push_back([&, i](const Launch& on) {
      decode.Run(problem.Params(i % problem.num_layers()), nullptr, on);
    });
  }
  *kv_bytes = problem.kv_bytes();
  return MicrosecondsPerLaunch(launches, launch);
}

void PrintTable(const Ceilings& ceilings, bool dependent) {
  std::printf("\ndecode attention, 32 query heads, 8 KV heads, head_dim 128, blocks of 16%s\n",
              dependent ? "" : "; no launch begins before the one in front has ended");
  std::printf("%5s %6s | %9s %8s %6s | %9s %8s %6s | %8s\n", "seqs", "tokens", "BF16 us", "TB/s",
              "share", "FP8 us", "TB/s", "share", "FP8/BF16");
  const std::pair<uint32_t, uint32_t> sizes[] = {{1, 1024},  {1, 8192},   {1, 32768}, {8, 1024},
                                                 {8, 8192},  {8, 32768},  {32, 8192}, {64, 1024},
                                                 {64, 4096}, {128, 1024}, {256, 1024}};
  for (const auto& [num_seqs, seq_len] : sizes) {
    double bf16_bytes, fp8_bytes;
    const double bf16 = Measure(KvCacheDType::kBf16, num_seqs, seq_len, dependent, &bf16_bytes);
    const double fp8 = Measure(KvCacheDType::kF8E4M3, num_seqs, seq_len, dependent, &fp8_bytes);
    std::printf("%5u %6u | %9.2f %8.2f %6.2f | %9.2f %8.2f %6.2f | %8.2f\n", num_seqs, seq_len,
                bf16, bf16_bytes / bf16 / 1e6, bf16_bytes / bf16 * 1e6 / ceilings.read_bytes_per_s,
                fp8, fp8_bytes / fp8 / 1e6, fp8_bytes / fp8 * 1e6 / ceilings.read_bytes_per_s,
                fp8 / bf16);
  }
}

}  // namespace

void DecodeBench(const Ceilings& ceilings) { PrintTable(ceilings, true); }

void DecodeInOrderBench(const Ceilings& ceilings) { PrintTable(ceilings, false); }

}  // namespace kvs::gpu
