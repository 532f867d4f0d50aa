#include "gpu/step_timer.h"

namespace kvs::gpu {
namespace {

double SecondsBetween(Event from, Event to) {
  float ms = 0.0f;
  KVS_GPU(EventElapsedTime(&ms, from, to));
  return ms * 1e-3;
}

}  // namespace

StepTimer::StepTimer(Stream stream) : stream_(stream) {
  for (Step& step : steps_) {
    KVS_GPU(EventCreate(&step.begin));
    KVS_GPU(EventCreate(&step.end));
  }
}

StepTimer::~StepTimer() {
  for (Step& step : steps_) {
    KVS_GPU(EventDestroy(step.begin));
    KVS_GPU(EventDestroy(step.end));
  }
}

void StepTimer::Begin() {
  if (num_begun_ == num_ended_) ++num_begun_;
  Step& step = At(num_begun_ - 1);
  step.follows = num_ended_ > num_finished_;
  KVS_GPU(EventRecord(step.begin, stream_));
}

void StepTimer::End() {
  if (num_ended_ == num_begun_) return;
  KVS_GPU(EventRecord(At(num_ended_++).end, stream_));
}

void StepTimer::Finished() {
  if (num_finished_ == num_ended_) return;
  const Step& step = At(num_finished_);
  KVS_GPU(EventSynchronize(step.end));
  total_.busy_seconds += SecondsBetween(step.begin, step.end);
  if (step.follows) {
    total_.idle_seconds += SecondsBetween(At(num_finished_ + 2).end, step.begin);  // one before
  }
  ++num_finished_;
}

}  // namespace kvs::gpu
