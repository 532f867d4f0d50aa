// Speed of the CPU kernels as shares of what the machine was just measured to do.
//   kernel_bench [all|gemv|gemm|attention|prefill|small] [threads] [instruction set]
// Shapes are those of a 1B Llama: hidden 2048, 16 layers, 32 query and 8 KV heads of 64, FFN 8192,
// vocabulary 128256. Each figure is a median.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "bench/dnnl_peer.h"
#include "bench/machine_peaks.h"
#include "kvserve/backend.h"
#include "kvserve/check.h"

#ifndef KVS_HAVE_DNNL
double kvs::bench::MeasureDnnlLinear(uint32_t, uint32_t, uint32_t, uint32_t) { return -1; }
#endif

namespace kvs::bench {
namespace {

constexpr uint32_t kHidden = 2048, kFfn = 8192, kNumHeads = 32, kNumKvHeads = 8, kVocab = 128256;
constexpr uint32_t kMaxRows = 8192;
constexpr size_t kOutOfCacheBytes = size_t{512} << 20;

struct Machine {
  uint32_t num_threads;
  double read_bandwidth;  // bytes/s
  double bf16_peak;       // FLOP/s; 0 = unknown
};

template <class Fn>
double MedianTime(int repeats, const Fn& fn) {
  std::vector<double> times;
  fn();
  for (int i = 0; i < repeats; ++i) {
    const double start = Now();
    fn();
    times.push_back(Now() - start);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

std::unique_ptr<LinearWeight> MakeWeight(Backend& backend, uint32_t in, uint32_t out) {
  std::vector<uint16_t> host(size_t{in} * out);
  uint32_t state = 1;
  for (uint16_t& value : host) {
    state = state * 1664525 + 1013904223;
    value = static_cast<uint16_t>((state >> 16 & 0x807f) | 0x3c80);  // +- 1/64 .. 1/32
  }
  const HostMatrix part{host.data(), DType::kBf16, out, in};
  auto weight = backend.PackLinear({&part, 1}, DType::kBf16);
  KVS_CHECK(weight.has_value());
  return std::move(*weight);
}

struct LinearShape {
  const char* name;
  uint32_t in, out;
  double bytes() const { return 2.0 * in * out; }
};

constexpr LinearShape kShapes[] = {{"qkv", kHidden, 3072},
                                   {"o", kHidden, kHidden},
                                   {"gate_up", kHidden, 2 * kFfn},
                                   {"down", kFfn, kHidden},
                                   {"lm_head", kHidden, kVocab}};

void BenchGemv(Backend& backend, const Machine& machine) {
  std::printf("\nLinear, bf16 weights from memory (shares of read bandwidth)\n%-10s %6s", "shape",
              "MB");
  const uint32_t row_counts[] = {1, 2, 4, 8, 12};
  for (uint32_t rows : row_counts) std::printf("   M=%-2u GB/s share", rows);
  std::printf("\n");
  std::vector<float> x(size_t{12} * kFfn, 0.5f), out(size_t{12} * kVocab);
  for (const LinearShape& shape : kShapes) {
    std::vector<std::unique_ptr<LinearWeight>> weights;
    const auto count = static_cast<size_t>(std::ceil(kOutOfCacheBytes / shape.bytes()));
    for (size_t i = 0; i < count; ++i) weights.push_back(MakeWeight(backend, shape.in, shape.out));
    std::printf("%-10s %6.1f", shape.name, shape.bytes() / 1e6);
    for (uint32_t rows : row_counts) {
      const double seconds = MedianTime(7, [&] {
        for (const auto& weight : weights) {
          backend.Linear({x.data(), weight.get(), out.data(), rows, true});
        }
      });
      const double rate = shape.bytes() * static_cast<double>(count) / seconds;
      std::printf("   %9.1f  %4.2f", rate / 1e9, rate / machine.read_bandwidth);
    }
    std::printf("\n");
  }
}

void BenchGemm(Backend& backend, const Machine& machine) {
  std::printf("\nLinear, many rows (GFLOP/s, share of the bf16 peak; oneDNN in GFLOP/s)\n");
  std::printf("%-10s %6s %10s %6s %10s\n", "shape", "M", "GFLOP/s", "share", "oneDNN");
  std::vector<float> x(size_t{2048} * kFfn, 0.5f), out(size_t{2048} * 2 * kFfn);
  for (const LinearShape& shape : kShapes) {
    if (shape.out == kVocab) continue;
    const auto weight = MakeWeight(backend, shape.in, shape.out);
    for (uint32_t rows : {16u, 64u, 256u, 512u, 2048u}) {
      const double flop = 2.0 * rows * shape.in * shape.out;
      // Beside each figure: a core that is shared with another machine has half of it at times.
      const double peak = MeasureBf16Peak(machine.num_threads);
      const double seconds = MedianTime(5, [&] {
        backend.Linear({x.data(), weight.get(), out.data(), rows, true});
      });
      const double peer = MeasureDnnlLinear(rows, shape.in, shape.out, machine.num_threads);
      std::printf("%-10s %6u %10.1f  %5.2f %10.1f\n", shape.name, rows, flop / seconds / 1e9,
                  peak > 0 ? flop / seconds / peak : 0.0, peer > 0 ? flop / peer / 1e9 : 0.0);
    }
  }
}

// `num_seqs` sequences of `length` positions, of which the last `num_new` are queries.
struct AttentionRun {
  KvCacheDType dtype;
  uint32_t head_dim, num_seqs, length, num_new;
};

double TimeAttention(Backend& backend, const AttentionRun& run) {
  constexpr uint32_t kBlockSize = 16;
  const uint32_t blocks_per_seq = (run.length + kBlockSize - 1) / kBlockSize;
  const KvLayout layout{1, kNumKvHeads, run.head_dim, kBlockSize, run.dtype};
  auto cache = backend.Allocate(layout.LayerBlockBytes() * (1 + run.num_seqs * blocks_per_seq),
                                "bench cache");
  KVS_CHECK(cache.has_value());
  // Numbers below 2 in every dtype, of which no two are alike: a matrix unit is faster on others.
  std::minstd_rand random(1);
  std::generate_n(cache->as<uint8_t>(), cache->bytes(),
                  [&] { return static_cast<uint8_t>(random() >> 8 & 0xbf); });
  const std::vector<float> scales(kNumKvHeads, 1.0f);
  std::vector<BlockId> tables;
  for (uint32_t i = 0; i < run.num_seqs * blocks_per_seq; ++i) {
    // Neighbouring blocks of a sequence lie apart, as after some time of serving.
    const uint32_t seq = i / blocks_per_seq, block = i % blocks_per_seq;
    tables.push_back(BlockId{1 + block * run.num_seqs + seq});
  }
  std::vector<uint32_t> starts = {0};
  for (uint32_t seq = 0; seq < run.num_seqs; ++seq) starts.push_back(starts.back() + run.num_new);
  const std::vector<uint32_t> seq_lens(run.num_seqs, run.length);
  const uint32_t num_tokens = starts.back();
  std::vector<float> qkv(size_t{num_tokens} * (kNumHeads + 2 * kNumKvHeads) * run.head_dim);
  std::generate(qkv.begin(), qkv.end(),
                [&] { return static_cast<float>(random() % 2000) * 1e-4f - 0.1f; });
  std::vector<float> out(size_t{num_tokens} * kNumHeads * run.head_dim);
  const KvView view{cache->data(), scales.data(), scales.data(), layout};
  return MedianTime(7, [&] {
    backend.PagedAttention({qkv.data(), out.data(), view, tables.data(), starts.data(),
                            seq_lens.data(), run.num_seqs, num_tokens, kNumHeads, blocks_per_seq,
                            1.0f / std::sqrt(static_cast<float>(run.head_dim))});
  });
}

void BenchDecodeAttention(Backend& backend, const Machine& machine) {
  std::printf("\nAttention, decode, 32 heads over 8 KV heads (shares of read bandwidth)\n");
  std::printf("%-8s %6s %5s %9s %6s %6s %9s %6s %6s %9s\n", "head_dim", "ctx", "seqs", "bf16 ms",
              "GB/s", "share", "fp8 ms", "GB/s", "share", "bf16/fp8");
  for (uint32_t head_dim : {64u, 128u}) {
    for (uint32_t length : {1024u, 8192u, 32768u}) {
      const size_t seq_bytes = size_t{length} * 2 * kNumKvHeads * head_dim * 2;
      const auto num_seqs =
          static_cast<uint32_t>(std::max<size_t>(1, kOutOfCacheBytes / 2 / seq_bytes));
      const double bytes = static_cast<double>(seq_bytes * num_seqs);
      const double bf16 =
          TimeAttention(backend, {KvCacheDType::kBf16, head_dim, num_seqs, length, 1});
      const double fp8 =
          TimeAttention(backend, {KvCacheDType::kF8E4M3, head_dim, num_seqs, length, 1});
      std::printf("%-8u %6u %5u %9.2f %6.1f  %5.2f %9.2f %6.1f  %5.2f %9.2f\n", head_dim, length,
                  num_seqs, bf16 * 1e3, bytes / bf16 / 1e9, bytes / bf16 / machine.read_bandwidth,
                  fp8 * 1e3, bytes / 2 / fp8 / 1e9, bytes / 2 / fp8 / machine.read_bandwidth,
                  bf16 / fp8);
    }
  }
}

void BenchPrefillAttention(Backend& backend, const Machine& machine) {
  std::printf("\nAttention, causal prefill of one sequence (GFLOP/s, share of the bf16 peak)\n");
  std::printf("%-8s %6s %6s %8s %9s %9s %6s\n", "head_dim", "ctx", "new", "dtype", "ms", "GFLOP/s",
              "share");
  for (uint32_t head_dim : {64u, 128u}) {
    for (auto [length, num_new] : {std::pair{2048u, 2048u}, {8192u, 512u}}) {
      for (KvCacheDType dtype : {KvCacheDType::kBf16, KvCacheDType::kF8E4M3, KvCacheDType::kF16}) {
        const double seconds = TimeAttention(backend, {dtype, head_dim, 1, length, num_new});
        const double pairs = num_new * (length - num_new + (num_new + 1) / 2.0);
        const double rate = 4.0 * pairs * kNumHeads * head_dim / seconds;
        std::printf("%-8u %6u %6u %8s %9.2f %9.1f  %5.2f\n", head_dim, length, num_new,
                    std::string(ToString(dtype)).c_str(), seconds * 1e3, rate / 1e9,
                    machine.bf16_peak > 0 ? rate / machine.bf16_peak : 0.0);
      }
    }
  }
}

void BenchSmallOps(Backend& backend) {
  std::printf("\nOther ops, one row (us)\n");
  std::vector<float> a(2 * kFfn, 0.3f), b(2 * kFfn, 0.2f), out(2 * kFfn);
  const double norm = MedianTime(1001, [&] {
    backend.AddRmsNorm({a.data(), b.data(), b.data(), out.data(), 1, kHidden, 1e-5f});
  });
  const double silu = MedianTime(1001, [&] { backend.SiluMul({a.data(), out.data(), 1, kFfn}); });
  std::vector<float> logits(kVocab), scratch(kVocab);
  for (uint32_t i = 0; i < kVocab; ++i) {
    logits[i] = 10.0f * std::sin(static_cast<float>(i) * 12.9898f);
  }
  SampleRow row{};
  row.top_p = 1;
  row.repetition_penalty = 1;
  row.uniform = 0.5;
  row.draw = true;
  row.num_logprobs = -1;
  SampleResult result;
  const auto time_sample = [&](float temperature, float top_p, int top_k) {
    row.temperature = temperature;
    row.top_p = top_p;
    row.top_k = top_k;
    return MedianTime(31, [&] {
      scratch = logits;
      backend.Sample({scratch.data(), &row, &result, 1, kVocab});
    });
  };
  std::printf("AddRmsNorm 2048: %.2f, SiluMul 8192: %.2f\n", norm * 1e6, silu * 1e6);
  std::printf("Sample 128256: greedy %.0f, temperature %.0f, top_p %.0f, top_k 50 %.0f\n",
              time_sample(0, 1, 0) * 1e6, time_sample(1, 1, 0) * 1e6, time_sample(1, 0.9f, 0) * 1e6,
              time_sample(1, 1, 50) * 1e6);
}

int Main(int argc, char** argv) {
  const std::string_view what = argc > 1 ? argv[1] : "all";
  const auto wanted = [&](std::string_view name) { return what == "all" || what == name; };
  CpuBackendOptions options;
  if (argc > 2) options.num_threads = static_cast<uint32_t>(std::atoi(argv[2]));
  if (argc > 3) options.instruction_set = argv[3];
  auto made = MakeCpuBackend(options);
  if (!made) {
    std::fprintf(stderr, "%s\n", made.error().message().c_str());
    return 1;
  }
  Backend& backend = **made;
  const std::string description = backend.Describe();
  const uint32_t num_threads = static_cast<uint32_t>(
      std::max(1, std::atoi(description.c_str() + description.rfind(',') + 1)));
  const Machine machine{num_threads, MeasureReadBandwidth(num_threads, kOutOfCacheBytes),
                        MeasureBf16Peak(num_threads)};
  std::printf("%s\nread bandwidth %.1f GB/s, bf16 peak %.1f GFLOP/s\n", description.c_str(),
              machine.read_bandwidth / 1e9, machine.bf16_peak / 1e9);
  KVS_CHECK(backend
                .Reserve({.max_num_seqs = 256,
                          .max_num_batched_tokens = kMaxRows,
                          .max_num_logits_rows = 256,
                          .max_model_len = 32768,
                          .num_heads = kNumHeads,
                          .num_kv_heads = kNumKvHeads,
                          .head_dim = 128,
                          .hidden_size = kHidden,
                          .intermediate_size = kFfn,
                          .vocab_size = kVocab})
                .has_value());
  if (wanted("gemv")) BenchGemv(backend, machine);
  if (wanted("gemm")) BenchGemm(backend, machine);
  if (wanted("attention")) BenchDecodeAttention(backend, machine);
  if (wanted("prefill")) BenchPrefillAttention(backend, machine);
  if (wanted("small")) BenchSmallOps(backend);
  return 0;
}

}  // namespace
}  // namespace kvs::bench

int main(int argc, char** argv) { return kvs::bench::Main(argc, argv); }
