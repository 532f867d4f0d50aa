// StepTimer: how long the device worked on steps, and how long it waited for the next one although
// that one's turn had come. Events on the device's own time line; read when a step has been waited
// for anyway.
#pragma once

#include <array>
#include <cstdint>

#include "gpu/gpu.h"
#include "kvserve/backend.h"

namespace kvs::gpu {

class StepTimer {
 public:
  explicit StepTimer(Stream stream);
  StepTimer(const StepTimer&) = delete;
  StepTimer& operator=(const StepTimer&) = delete;
  ~StepTimer();

  void Begin();     // before a step's first operation; again, for a step that had no End
  void End();       // after its last one
  void Finished();  // the device has done the oldest step that has an End and no Finished

  const DeviceTime& total() const { return total_; }

 private:
  struct Step {
    Event begin{};
    Event end{};
    bool follows = false;  // the step before was not yet finished when this one began
  };
  Step& At(uint32_t number) { return steps_[number % steps_.size()]; }

  const Stream stream_;
  std::array<Step, 3> steps_;  // the one before, the one waited for, the one begun since
  uint32_t num_begun_ = 0;
  uint32_t num_ended_ = 0;
  uint32_t num_finished_ = 0;
  DeviceTime total_;
};

}  // namespace kvs::gpu
