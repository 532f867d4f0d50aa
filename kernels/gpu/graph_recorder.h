// Recorded launches: a step's operations are captured into a graph the first time its key is seen
// and replayed as one launch from then on.
#pragma once

#include <cstdint>
#include <functional>
#include <unordered_map>

#include "gpu/gpu.h"

namespace kvs::gpu {

class GraphRecorder {
 public:
  explicit GraphRecorder(Stream stream) : stream_(stream) {}
  GraphRecorder(const GraphRecorder&) = delete;
  GraphRecorder& operator=(const GraphRecorder&) = delete;
  ~GraphRecorder();

  // The first call with a key runs `ops` plainly, so that what kernels do at their first use lies
  // outside of any capture; the second captures; later ones replay.
  void Run(uint64_t key, const std::function<void()>& ops);
  size_t size() const { return graphs_.size(); }

 private:
  const Stream stream_;
  std::unordered_map<uint64_t, GraphExec> graphs_;  // null after the first call
};

}  // namespace kvs::gpu
