// --inject-fault: a model that does wrong on purpose, so that `kvserve doctor` and monitoring can
// be seen to find it.
#pragma once

#include <span>

#include "kvserve/options.h"
#include "model/model.h"

namespace kvs {

// Computes with `model`, which outlives it, until the fault strikes. Not thread-safe.
class FaultyRunner : public StepRunner {
 public:
  FaultyRunner(StepRunner& model, Fault fault, uint32_t vocab_size)
      : model_(model), fault_(fault), vocab_size_(vocab_size) {}

  // kCrash, kCrashOnHit: the process dies by SIGSEGV. kHang: does not return.
  float* Forward(const StepPlan& plan) override;
  void StartSample(std::span<const SampleRow> rows, std::span<SampleResult> results,
                   float* logits) override {
    model_.StartSample(rows, results, logits);
  }
  // kWrongText: each sampled token is the one after it in the vocabulary.
  void FinishSample(std::span<const SampleRow> rows, std::span<SampleResult> results) override;
  bool is_pipelined() const override { return model_.is_pipelined(); }
  uint64_t num_saturated() const override { return model_.num_saturated(); }
  DeviceTime device_time() const override { return model_.device_time(); }

 private:
  StepRunner& model_;
  const Fault fault_;
  const uint32_t vocab_size_;
};

}  // namespace kvs
