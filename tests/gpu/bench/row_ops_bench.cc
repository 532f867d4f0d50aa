// The operations that touch each element once, and sampling. Shape of Llama-3.1-8B: hidden 4096,
// 32 query heads, 8 KV heads of 128, intermediate 14336, vocabulary 128256.
#include <cstdio>
#include <string>

#include "gpu/bench/bench.h"
#include "gpu/gpu_weight.h"
#include "gpu/ops.h"
#include "gpu/sample.h"

namespace kvs::gpu {
namespace {

constexpr uint32_t kHidden = 4096, kHeads = 32, kKvHeads = 8, kHeadDim = 128;
constexpr uint32_t kIntermediate = 14336, kVocab = 128256, kMaxPosition = 8192;
constexpr size_t kPoolBytes = size_t{2} << 30;
constexpr int kLaunches = 24;

// Memory that launches take turns in, so that none finds its data in the second-level cache.
class Pool {
 public:
  Pool() : memory_(kPoolBytes) { FillRandom(memory_.data(), kPoolBytes, 1); }

  uint8_t* Take(size_t bytes) {
    bytes = (bytes + 255) / 256 * 256;
    if (used_ + bytes > kPoolBytes) used_ = 0;
    used_ += bytes;
    return memory_.data() + used_ - bytes;
  }

 private:
  DeviceArray<uint8_t> memory_;
  size_t used_ = 0;
};

using Run = std::function<void(const Launch&)>;

void Print(const char* name, uint32_t rows, double us, double bytes, const Ceilings& ceilings) {
  std::printf("%-24s %6u | %9.2f %9.1f %6.2f\n", name, rows, us, bytes / us / 1e3,
              bytes / us * 1e6 / ceilings.copy_bytes_per_s);
}

class RowOps {
 public:
  explicit RowOps(const Ceilings& ceilings)
      : ceilings_(ceilings),
        weight_(std::vector<float>(kHidden, 1.0f)),
        cos_sin_(size_t{kMaxPosition} * kHeadDim),
        scales_(std::vector<float>(kKvHeads, 1.0f)),
        launch_(TestLaunch(DType::kBf16)) {
    launch_.dependent = true;
    FillRandom(cos_sin_.data(), cos_sin_.size() * 4, 3);
    table_.out_features = kVocab;
    table_.in_features = kHidden;
    table_.data = DeviceBuffer(pool_.Take(size_t{kVocab} * kHidden * 2),
                               size_t{kVocab} * kHidden * 2, [](void*, size_t) {});
  }

  void Measure(uint32_t rows) {
    std::vector<uint32_t> ids(rows), slots(rows);
    Random random(rows);
    for (uint32_t i = 0; i < rows; ++i) {
      ids[i] = random.Below(kMaxPosition);
      slots[i] = 16 + i;
    }
    const DeviceArray<uint32_t> device_ids(ids), device_slots(slots);
    const double row_bytes = 2.0 * rows;
    Time("embed", rows, 2 * row_bytes * kHidden, [&] {
      const EmbedParams params{&table_, reinterpret_cast<const TokenId*>(device_ids.data()),
                               pool_.Take(size_t{rows} * kHidden * 2), rows};
      return [params](const Launch& launch) { Embed(params, launch); };
    });
    Time("gather_rows", rows, 2 * row_bytes * kHidden, [&] {
      const GatherRowsParams params{table_.data.data(), device_ids.data(),
                                    pool_.Take(size_t{rows} * kHidden * 2), rows, kHidden};
      return [params](const Launch& launch) { GatherRows(params, launch); };
    });
    Time("add_rms_norm", rows, 4 * row_bytes * kHidden, [&] {
      const size_t bytes = size_t{rows} * kHidden * 2;
      uint8_t* const residual = pool_.Take(bytes);
      uint8_t* const x = pool_.Take(bytes);
      const AddRmsNormParams params{residual, x,       weight_.data(), pool_.Take(bytes),
                                    rows,     kHidden, 1e-5f};
      return [params](const Launch& launch) { AddRmsNorm(params, launch); };
    });
    Time("silu_mul", rows, 3 * row_bytes * kIntermediate, [&] {
      uint8_t* const in = pool_.Take(size_t{rows} * kIntermediate * 4);
      const SiluMulParams params{in, pool_.Take(size_t{rows} * kIntermediate * 2), rows,
                                 kIntermediate};
      return [params](const Launch& launch) { SiluMul(params, launch); };
    });
    MeasureRope("rope_kv_store bf16", KvCacheDType::kBf16, device_ids, device_slots);
    MeasureRope("rope_kv_store fp8_e4m3", KvCacheDType::kF8E4M3, device_ids, device_slots);
  }

 private:
  template <class Make>
  void Time(const char* name, uint32_t rows, double bytes, const Make& make) {
    std::vector<Run> runs;
    for (int i = 0; i < kLaunches; ++i) runs.push_back(make());
    Print(name, rows, MicrosecondsPerLaunch(runs, launch_), bytes, ceilings_);
  }

  void MeasureRope(const char* name, KvCacheDType dtype, const DeviceArray<uint32_t>& positions,
                   const DeviceArray<uint32_t>& slots) {
    const auto rows = static_cast<uint32_t>(positions.size());
    constexpr uint32_t kRow = (kHeads + 2 * kKvHeads) * kHeadDim;
    const KvLayout layout{1, kKvHeads, kHeadDim, 16, dtype};
    const double kv_bytes = 2.0 * kKvHeads * kHeadDim * SizeOf(dtype);
    Time(name, rows, rows * (2.0 * kRow + 2.0 * kHeads * kHeadDim + 4.0 * kHeadDim + kv_bytes),
         [&] {
           RopeKvStoreParams params{};
           params.qkv = pool_.Take(size_t{rows} * kRow * 2);
           params.positions = positions.data();
           params.slot_mapping = reinterpret_cast<const SlotId*>(slots.data());
           params.cos_sin = cos_sin_.data();
           params.kv = {pool_.Take((rows / 16 + 2) * layout.LayerBlockBytes()), scales_.data(),
                        scales_.data(), layout};
           params.num_tokens = rows;
           params.num_heads = kHeads;
           return [params, this](const Launch& launch) {
             RopeKvStore(params, num_saturated_.data(), launch);
           };
         });
  }

  const Ceilings& ceilings_;
  Pool pool_;
  GpuWeight table_;
  const DeviceArray<float> weight_, cos_sin_, scales_;
  const DeviceArray<uint64_t> num_saturated_{std::vector<uint64_t>{0}};
  Launch launch_;
};

// Peaked as a model's: a broad bulk, and a few dozen tokens that stand out.
std::vector<float> PeakedRow() {
  Random random(7);
  std::vector<float> row = random.Normals(kVocab, 2.0f);
  for (int i = 0; i < 40; ++i) row[random.Below(kVocab)] = 9.0f + static_cast<float>(i) / 8;
  return row;
}

void SampleBench(const std::vector<float>& row, const char* kind, uint32_t rows,
                 const Ceilings& ceilings) {
  const DeviceArray<float> logits(size_t{rows} * kVocab);
  for (uint32_t i = 0; i < rows; ++i) {
    KVS_GPU(Memcpy(logits.data() + size_t{i} * kVocab, row.data(), kVocab * 4,
                   KVS_GPU_NAME(MemcpyHostToDevice)));
  }
  Launch launch = TestLaunch(DType::kBf16);
  launch.dependent = true;
  const double bytes = 4.0 * rows * kVocab;
  const DeviceArray<uint32_t> token_ids(rows), arrivals(std::vector<uint32_t>(rows, 0));
  const DeviceArray<uint64_t> partial_keys(size_t{rows} * NumChunks(kVocab));
  const ArgmaxParams argmax{logits.data(),
                            nullptr,
                            reinterpret_cast<TokenId*>(token_ids.data()),
                            partial_keys.data(),
                            arrivals.data(),
                            rows,
                            kVocab};
  const Run run_argmax = [&](const Launch& on) { Argmax(argmax, on); };
  const auto name = [&](const char* what) { return std::string(what) + " " + kind; };
  Print(name("argmax, in a graph").c_str(), rows,
        MicrosecondsPerLaunch(std::vector<Run>(kLaunches, run_argmax), launch), bytes, ceilings);

  SampleOp op;
  BackendLimits limits{};
  limits.max_num_logits_rows = rows;
  limits.vocab_size = kVocab;
  KVS_CHECK(op.Reserve(limits).has_value());
  const auto measure = [&](const char* what, float temperature, int32_t top_k, float top_p,
                           int32_t num_logprobs) {
    std::vector<SampleRow> sample_rows(rows);
    std::vector<SampleResult> results(rows);
    for (uint32_t i = 0; i < rows; ++i) {
      sample_rows[i].logits_row = i;
      sample_rows[i].temperature = temperature;
      sample_rows[i].top_k = top_k;
      sample_rows[i].top_p = top_p;
      sample_rows[i].repetition_penalty = 1;
      sample_rows[i].uniform = (i + 0.5) / rows;
      sample_rows[i].draw = true;
      sample_rows[i].num_logprobs = num_logprobs;
    }
    const SampleParams params{logits.data(), sample_rows.data(), results.data(), rows, kVocab};
    const double us = MicrosecondsAlone(
        [&](const Launch& on) {
          op.Start(params, on);
          op.Finish(params);
        },
        launch);
    Print(name(what).c_str(), rows, us, bytes, ceilings);
  };
  measure("greedy", 0, 0, 1, -1);
  measure("T=1", 1, 0, 1, -1);
  measure("top_p .95", 1, 0, 0.95f, -1);
  measure("top_k 50 .9", 1, 50, 0.9f, -1);
  measure("greedy, 5 lp", 0, 0, 1, 5);
}

}  // namespace

void RowOpsBench(const Ceilings& ceilings) {
  std::printf("\nrow operations: bytes read and written, share of the measured copy\n");
  std::printf("%-24s %6s | %9s %9s %6s\n", "operation", "rows", "us", "GB/s", "share");
  {
    RowOps ops(ceilings);
    for (const uint32_t rows : {1u, 64u, 256u, 8192u}) ops.Measure(rows);
  }
  std::printf("\nsampling: bytes of logits; but for the graph, from Start to the end of Finish\n");
  const std::vector<float> peaked = PeakedRow();
  const std::vector<float> flat = Random(8).Normals(kVocab, 1.0f);
  for (const uint32_t rows : {1u, 64u, 256u}) {
    SampleBench(peaked, "peaked", rows, ceilings);
    SampleBench(flat, "flat", rows, ceilings);
  }
}

}  // namespace kvs::gpu
