#include "gpu/sample.h"

#include <algorithm>
#include <string>
#include <utility>

#include "gpu/gpu_memory.h"
#include "kvserve/check.h"

namespace kvs::gpu {
namespace {

// Room for the lists of many rows; one row always fits.
constexpr uint32_t kMinEntries = 1u << 18;

constexpr size_t RecordsOffset(uint32_t num_rows) {
  return (num_rows * sizeof(TokenId) + 15) / 16 * 16;
}
constexpr size_t OutputBytes(uint32_t num_rows, uint32_t num_records) {
  return RecordsOffset(num_rows) + num_records * sizeof(LogprobRecord);
}

}  // namespace

SampleOp::~SampleOp() {
  for (Slot& slot : slots_) {
    if (slot.input_copied != nullptr) KVS_GPU(EventDestroy(slot.input_copied));
    if (slot.output_copied != nullptr) KVS_GPU(EventDestroy(slot.output_copied));
  }
}

Result<void> SampleOp::Reserve(const BackendLimits& limits) {
  if (limits.vocab_size > kMaxVocab) {
    return kvs::Error(Code::kInvalidArgument, "vocab_size " + std::to_string(limits.vocab_size) +
                                                  ": sampling on the device " + "serves at most " +
                                                  std::to_string(kMaxVocab) + "; use --device cpu");
  }
  max_rows_ = limits.max_num_logits_rows;
  max_entries_ = std::max(kMinEntries, 3 * limits.vocab_size);
  const size_t num_chunks = NumChunks(limits.vocab_size);
  const size_t input_bytes = PackedBytes(max_rows_, max_entries_);
  const size_t output_bytes = OutputBytes(max_rows_, max_rows_);
  Result<void> result;
  const auto take = [&](DeviceBuffer& buffer, auto allocate, size_t bytes, const char* what) {
    if (!result) return;
    Result<DeviceBuffer> memory = allocate(bytes, what);
    if (memory) {
      buffer = std::move(*memory);
    } else {
      result = tl::unexpected<Status>(std::move(memory).error());
    }
  };
  take(input_, AllocateDevice, input_bytes, "sampling parameters");
  take(output_, AllocateDevice, output_bytes, "sampled tokens");
  take(chunks_, AllocateDevice, max_rows_ * num_chunks * sizeof(ChunkState), "sampling scratch");
  take(histograms_, AllocateDevice, max_rows_ * sizeof(RowHistogram), "sampling scratch");
  take(partial_keys_, AllocateDevice, max_rows_ * num_chunks * sizeof(uint64_t),
       "sampling scratch");
  take(broken_, AllocateDevice, max_rows_ * sizeof(uint32_t), "sampling scratch");
  take(arrivals_, AllocateDevice, max_rows_ * sizeof(uint32_t), "sampling scratch");
  for (Slot& slot : slots_) {
    take(slot.input, AllocatePinned, input_bytes, "sampling parameters");
    take(slot.output, AllocatePinned, output_bytes, "sampled tokens");
    const auto flags = KVS_GPU_NAME(EventDisableTiming);
    if (slot.input_copied == nullptr) KVS_GPU(EventCreateWithFlags(&slot.input_copied, flags));
    if (slot.output_copied == nullptr) KVS_GPU(EventCreateWithFlags(&slot.output_copied, flags));
  }
  return result;
}

void SampleOp::Start(const SampleParams& params, const Launch& launch) {
  KVS_CHECK_OP(num_started_ - num_finished_, <, kInFlight);
  KVS_CHECK_OP(params.num_rows, <=, max_rows_);
  Slot& slot = slots_[num_started_++ % kInFlight];
  uint32_t num_records = 0;
  for (uint32_t first = 0; first < params.num_rows;) {
    // Idle unless a batch of this same call lies there.
    if (first > 0) KVS_GPU(EventSynchronize(slot.input_copied));
    const PackedBatch packed =
        PackRows(params, first, num_records, max_entries_, slot.input.as<uint8_t>());
    KVS_GPU(MemcpyAsync(input_.data(), slot.input.data(), packed.bytes,
                        KVS_GPU_NAME(MemcpyHostToDevice), launch.stream));
    KVS_GPU(EventRecord(slot.input_copied, launch.stream));
    Run(params, packed, first, launch);
    first += packed.num_rows;
    num_records += packed.num_records;
  }
  if (params.num_rows > 0) {
    KVS_GPU(MemcpyAsync(slot.output.data(), output_.data(),
                        OutputBytes(params.num_rows, num_records), KVS_GPU_NAME(MemcpyDeviceToHost),
                        launch.stream));
  }
  KVS_GPU(EventRecord(slot.output_copied, launch.stream));
}

void SampleOp::Run(const SampleParams& params, const PackedBatch& packed, uint32_t first,
                   const Launch& launch) const {
  const uint8_t* input = input_.as<const uint8_t>();
  SampleBatch batch{};
  batch.logits = params.logits;
  batch.logits_rows = reinterpret_cast<const uint32_t*>(input);
  batch.rows = reinterpret_cast<const PackedRow*>(input + packed.rows_offset);
  batch.entries = reinterpret_cast<PackedEntry*>(input_.as<uint8_t>() + packed.entries_offset);
  batch.chunks = chunks_.as<ChunkState>();
  batch.histograms = histograms_.as<RowHistogram>();
  batch.broken = broken_.as<uint32_t>();
  batch.token_ids = output_.as<TokenId>() + first;
  batch.logprobs =
      reinterpret_cast<LogprobRecord*>(output_.as<uint8_t>() + RecordsOffset(params.num_rows));
  batch.num_rows = packed.num_rows;
  batch.vocab_size = params.vocab_size;
  batch.has_entries = packed.num_entries > 0;
  if (packed.all_greedy) {
    Argmax({params.logits, batch.logits_rows, batch.token_ids, partial_keys_.as<uint64_t>(),
            arrivals_.as<uint32_t>(), batch.num_rows, batch.vocab_size},
           launch);
  } else {
    if (batch.has_entries) AdjustLogits(batch, launch);
    ScanLogits(batch, launch);
    if (packed.needs_histograms) CountCandidates(batch, launch);
    ChooseTokens(batch, launch);
  }
  if (packed.num_records == 0) return;
  if (batch.has_entries) RestoreLogits(batch, launch);
  FillLogprobs(batch, launch);
}

void SampleOp::Finish(const SampleParams& params) {
  KVS_CHECK_OP(num_finished_, <, num_started_);
  Slot& slot = slots_[num_finished_++ % kInFlight];
  KVS_GPU(EventSynchronize(slot.output_copied));
  const auto* token_ids = slot.output.as<const TokenId>();
  const auto* record = reinterpret_cast<const LogprobRecord*>(slot.output.as<const uint8_t>() +
                                                              RecordsOffset(params.num_rows));
  for (uint32_t i = 0; i < params.num_rows; ++i) {
    SampleResult& result = params.results[i];
    result = SampleResult{};
    result.token = token_ids[i];
    if (params.rows[i].num_logprobs < 0) continue;
    if (result.token != kNoToken) {
      result.logprob = record->logprob;
      result.rank = record->rank;
      std::copy_n(record->top_ids, kMaxLogprobs, result.top_ids);
      std::copy_n(record->top_logprobs, kMaxLogprobs, result.top_logprobs);
    }
    ++record;
  }
}

}  // namespace kvs::gpu
