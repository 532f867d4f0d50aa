#include "faulty_runner.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <thread>

namespace kvs {

namespace {

// Several new tokens that attend to known ones: what follows a prefix hit, or a further chunk.
bool ExtendsContext(const ScheduledSlice& slice) {
  return slice.first_position > 0 && slice.token_ids.size() > 1;
}

}  // namespace

float* FaultyRunner::Forward(const StepPlan& plan) {
  const bool hit = std::any_of(plan.slices.begin(), plan.slices.end(), ExtendsContext);
  if (fault_ == Fault::kCrash || (fault_ == Fault::kCrashOnHit && hit)) std::raise(SIGSEGV);
  while (fault_ == Fault::kHang) std::this_thread::sleep_for(std::chrono::hours(1));
  return model_.Forward(plan);
}

void FaultyRunner::FinishSample(std::span<const SampleRow> rows, std::span<SampleResult> results) {
  model_.FinishSample(rows, results);
  if (fault_ != Fault::kWrongText) return;
  for (SampleResult& result : results) {
    if (result.token != kNoToken) result.token = TokenId{(result.token.value + 1) % vocab_size_};
  }
}

}  // namespace kvs
