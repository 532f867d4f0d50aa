#include "gpu/sample_scan.cuh"

namespace kvs::gpu {
namespace {

constexpr uint32_t kThreads = 256;

// Calls fn(entry, logit) for entries [begin, end), by the whole block, and waits for all.
template <class F>
KVS_DEVICE void ForEachEntry(PackedEntry* begin, uint32_t count, float* row, const F& fn) {
  for (uint32_t i = threadIdx.x; i < count; i += kThreads) fn(begin[i], row[begin[i].token]);
  __syncthreads();
}

KVS_DEVICE float Penalized(const PackedRow& row, float logit, uint32_t output_count) {
  logit = logit > 0 ? logit / row.repetition_penalty : logit * row.repetition_penalty;
  if (output_count == 0) return logit;
  logit = __fsub_rn(logit, __fmul_rn(row.frequency_penalty, static_cast<float>(output_count)));
  return logit - row.presence_penalty;
}

// A block works on one row. A token may stand in each of the lists, once.
__global__ void AdjustKernel(SampleBatch batch) {
  WaitForPreviousKernel();
  AllowNextKernel();
  const uint32_t index = blockIdx.x;
  const PackedRow packed = batch.rows[index];
  PackedEntry* entries = batch.entries + packed.first_entry;
  float* row = batch.logits + size_t{batch.logits_rows[index]} * batch.vocab_size;
  int broken = 0;
  const auto keep = [&](PackedEntry& entry, float logit) {
    broken |= logit < __builtin_inff() ? 0 : 1;
    entry.payload = FloatBits(logit);
  };
  ForEachEntry(entries, packed.num_biases, row, [&](PackedEntry& entry, float& logit) {
    const float adjusted = logit + FloatFromBits(entry.payload);
    keep(entry, logit);
    logit = adjusted;
  });
  entries += packed.num_biases;
  ForEachEntry(entries, packed.num_banned, row, [&](PackedEntry& entry, float& logit) {
    keep(entry, logit);
    logit = kMinusInfinity;
  });
  entries += packed.num_banned;
  ForEachEntry(entries, packed.num_counts, row, [&](PackedEntry& entry, float& logit) {
    const float adjusted = Penalized(packed, logit, entry.payload);
    keep(entry, logit);
    logit = adjusted;
  });
  broken = __syncthreads_or(broken);
  if (threadIdx.x == 0) batch.broken[index] = broken != 0 ? 1 : 0;
}

// The lists backwards.
__global__ void RestoreKernel(SampleBatch batch) {
  WaitForPreviousKernel();
  AllowNextKernel();
  const uint32_t index = blockIdx.x;
  const PackedRow packed = batch.rows[index];
  PackedEntry* entries = batch.entries + packed.first_entry;
  float* row = batch.logits + size_t{batch.logits_rows[index]} * batch.vocab_size;
  const auto restore = [](PackedEntry& entry, float& logit) {
    logit = FloatFromBits(entry.payload);
  };
  ForEachEntry(entries + packed.num_biases + packed.num_banned, packed.num_counts, row, restore);
  ForEachEntry(entries + packed.num_biases, packed.num_banned, row, restore);
  ForEachEntry(entries, packed.num_biases, row, restore);
}

}  // namespace

void AdjustLogits(const SampleBatch& batch, const Launch& launch) {
  LaunchKernel(AdjustKernel, dim3(batch.num_rows), dim3(kThreads), 0, launch, batch);
}

void RestoreLogits(const SampleBatch& batch, const Launch& launch) {
  LaunchKernel(RestoreKernel, dim3(batch.num_rows), dim3(kThreads), 0, launch, batch);
}

}  // namespace kvs::gpu
