// Selection of the leading candidates of a row by a block of kSelectThreads: neither sorts nor
// depends on the order in which threads run. Weights are integers, so sums are exact in any order;
// a bound is found digit by digit, from histograms of the candidates' keys (radix selection).
#pragma once

#include "gpu/reduce.cuh"
#include "gpu/sample_scan.cuh"

namespace kvs::gpu {

inline constexpr uint32_t kSelectThreads = 1024;
inline constexpr uint32_t kMaxCandidates = 4096;  // held in shared memory; more are read again
inline constexpr uint32_t kKeyBits = kDigitBits + 32 + kMaxVocabBits;
static_assert(kBins == kSelectThreads, "a thread has one bin");

// A weight is exp2(exponent), exponent <= 0, in units of 2^-40: below that it is no candidate, and
// 2^20 of the largest fit 64 bits.
inline constexpr float kLowestExponent = -40.0f;

KVS_DEVICE uint64_t FixedPoint(float weight) { return __float2ull_rn(weight * 0x1p40f); }

// In shared memory. Weights stand in two halves, which is how atomic additions to them are fast.
struct Histogram {
  uint32_t counts[kBins];
  uint32_t low[kBins];
  uint32_t high[kBins];

  KVS_DEVICE void Clear() { counts[threadIdx.x] = low[threadIdx.x] = high[threadIdx.x] = 0; }
  KVS_DEVICE void Add(uint32_t bin, uint64_t weight) {
    atomicAdd(&counts[bin], 1u);
    const auto added = static_cast<uint32_t>(weight);
    auto carried = static_cast<uint32_t>(weight >> 32);
    if (atomicAdd(&low[bin], added) + added < added) ++carried;
    if (carried > 0) atomicAdd(&high[bin], carried);
  }
  // Of this thread's bin.
  KVS_DEVICE uint64_t Weight() const {
    return uint64_t{high[threadIdx.x]} << 32 | low[threadIdx.x];
  }
};

struct SelectMemory {
  Histogram histogram;
  float logits[kMaxCandidates];
  uint32_t tokens[kMaxCandidates];
  BlockScratch<uint64_t> scratch;
  uint64_t before;   // weight of the bins before `bin`
  uint64_t through;  // and with it
  uint32_t bin;
  uint32_t num_candidates;
};
static_assert(sizeof(SelectMemory) <= 48 * 1024);

// The order of candidates: larger logits first, then lower tokens.
struct CandidateOrder {
  float max;          // the row's largest logit
  float factor;       // of (logit - max) in an exponent
  float digit_scale;  // spreads the exponents of the candidates over the first digit

  // `lowest` is the least exponent that a candidate has.
  KVS_DEVICE CandidateOrder(float largest, float exponent_factor, float lowest)
      : max(largest),
        factor(exponent_factor),
        digit_scale(lowest < 0.0f ? 0.999f * kBins / fminf(-lowest, 1e4f) : 0.0f) {}

  KVS_DEVICE float Exponent(float logit) const { return (logit - max) * factor; }
  KVS_DEVICE uint64_t Weight(float logit) const { return FixedPoint(exp2f(Exponent(logit))); }
  // The first digit adds nothing to the order: it follows from the logit without ever contradicting
  // it, and makes equal shares of what float32 bits bunch together.
  KVS_DEVICE uint32_t FirstDigit(float logit) const {
    return min(static_cast<uint32_t>(-Exponent(logit) * digit_scale), kBins - 1);
  }
  // Ascending in the order.
  KVS_DEVICE uint64_t Key(float logit, uint32_t token) const {
    return uint64_t{FirstDigit(logit)} << (32 + kMaxVocabBits) |
           uint64_t{~OrderedBits(logit)} << kMaxVocabBits | token;
  }
};

// A leading set: all keys whose bits above `shift` are at most `prefix`; by default all there are.
struct Bound {
  uint64_t prefix = ~uint64_t{0};
  uint32_t shift = 0;

  KVS_DEVICE bool Holds(uint64_t key) const { return (key >> shift) <= prefix; }
  KVS_DEVICE bool IsAt(uint64_t key) const { return (key >> shift) == prefix; }
};

// The logits of a row that are at least `min_logit` and have at least `min_exponent`. They are held
// in shared memory where they fit, else read from the row each time.
class Candidates {
 public:
  // Called by the whole block, as everything here. With !hold, does not try to hold them all.
  KVS_DEVICE Candidates(const float* row, uint32_t vocab_size, const CandidateOrder& order,
                        float min_logit, float min_exponent, SelectMemory& memory, bool hold)
      : row_(row),
        vocab_size_(vocab_size),
        order_(order),
        min_logit_(min_logit),
        min_exponent_(min_exponent),
        memory_(memory) {
    is_complete_ = is_held_ = hold && Hold([](float, uint32_t) { return true; });
  }

  KVS_DEVICE const CandidateOrder& order() const { return order_; }
  KVS_DEVICE SelectMemory& memory() const { return memory_; }
  KVS_DEVICE bool is_held() const { return is_held_; }

  // Leaves those that wanted(logit, token) is true for. At most kMaxCandidates.
  template <class F>
  KVS_DEVICE void Narrow(const F& wanted) {
    is_held_ = Hold(wanted);
  }
  // Undoes Narrow.
  KVS_DEVICE void Widen() { is_held_ = is_complete_; }

  // Calls fn(logit, token) in no order.
  template <class F>
  KVS_DEVICE void ForEach(const F& fn) const {
    if (!is_held_) return ForEachInRow(fn);
    for (uint32_t i = threadIdx.x; i < memory_.num_candidates; i += kSelectThreads) {
      fn(memory_.logits[i], memory_.tokens[i]);
    }
  }

 private:
  template <class F>
  KVS_DEVICE void ForEachInRow(const F& fn) const {
    ForEachLogit(row_, vocab_size_, [&](float logit, uint32_t token) {
      if (logit >= min_logit_ && order_.Exponent(logit) >= min_exponent_) fn(logit, token);
    });
  }

  // False when they do not fit.
  template <class F>
  KVS_DEVICE bool Hold(const F& wanted) {
    if (threadIdx.x == 0) memory_.num_candidates = 0;
    __syncthreads();
    volatile uint32_t& num_candidates = memory_.num_candidates;
    ForEachInRow([&](float logit, uint32_t token) {
      if (num_candidates > kMaxCandidates || !wanted(logit, token)) return;
      const uint32_t at = atomicAdd(&memory_.num_candidates, 1u);
      if (at >= kMaxCandidates) return;
      memory_.logits[at] = logit;
      memory_.tokens[at] = token;
    });
    __syncthreads();
    return memory_.num_candidates <= kMaxCandidates;
  }

  const float* row_;
  uint32_t vocab_size_;
  CandidateOrder order_;
  float min_logit_, min_exponent_;
  SelectMemory& memory_;
  bool is_complete_;  // all of them fit
  bool is_held_;      // those of the moment are in shared memory
};

struct Leading {
  Bound bound;
  uint64_t weight;  // of the set
};

// The fewest leading candidates, in their order, whose weights reach `target`: a function of the
// weight of all, clamped to [1, that weight]. Only those that takes(key) is true for take part; the
// bound is one among them alone. weight_of(logit) is 1 or more. `first` is their histogram by the
// first digit, or null.
template <class Takes, class WeightOf, class Target>
KVS_DEVICE Leading SelectLeading(Candidates& candidates, const RowHistogram* first,
                                 const Takes& takes, const WeightOf& weight_of,
                                 const Target& target_of) {
  SelectMemory& memory = candidates.memory();
  const CandidateOrder& order = candidates.order();
  candidates.Widen();
  Bound bound{0, kKeyBits};
  uint64_t before = 0, target = 0;
  while (true) {
    const uint32_t shift = bound.shift > kDigitBits ? bound.shift - kDigitBits : 0;
    const uint32_t mask = (1u << (bound.shift - shift)) - 1;
    uint64_t weight;
    if (first != nullptr && bound.shift == kKeyBits) {
      weight = first->weights[threadIdx.x];
      memory.histogram.counts[threadIdx.x] = first->counts[threadIdx.x];
    } else {
      memory.histogram.Clear();
      __syncthreads();
      candidates.ForEach([&](float logit, uint32_t token) {
        const uint64_t key = order.Key(logit, token);
        if (!bound.IsAt(key) || !takes(key)) return;
        memory.histogram.Add(static_cast<uint32_t>(key >> shift) & mask, weight_of(logit));
      });
      __syncthreads();
      weight = memory.histogram.Weight();
    }
    uint64_t total;
    const uint64_t end = before + BlockInclusiveSum(weight, &total, memory.scratch);
    if (bound.shift == kKeyBits) target = min(max(target_of(total), uint64_t{1}), total);
    if (end - weight < target && target <= end) {
      memory.bin = threadIdx.x;
      memory.before = end - weight;
      memory.through = end;
    }
    __syncthreads();
    bound = {bound.prefix << (bound.shift - shift) | memory.bin, shift};
    before = memory.before;
    const Leading leading{bound, memory.through};
    const uint32_t count = memory.histogram.counts[memory.bin];
    __syncthreads();
    if (shift == 0 || count == 1) return leading;
    if (!candidates.is_held() && count <= kMaxCandidates) {
      candidates.Narrow([&](float logit, uint32_t token) {
        const uint64_t key = order.Key(logit, token);
        return bound.IsAt(key) && takes(key);
      });
    }
  }
}

}  // namespace kvs::gpu
