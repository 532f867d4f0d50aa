#include "gpu/graph_recorder.h"

namespace kvs::gpu {

GraphRecorder::~GraphRecorder() {
  for (const auto& [key, exec] : graphs_) {
    if (exec != nullptr) KVS_GPU(GraphExecDestroy(exec));
  }
}

void GraphRecorder::Run(uint64_t key, const std::function<void()>& ops) {
  const auto [entry, is_new] = graphs_.try_emplace(key, nullptr);
  if (is_new) {
    ops();
    return;
  }
  if (entry->second == nullptr) {
    Graph graph;
    KVS_GPU(StreamBeginCapture(stream_, KVS_GPU_NAME(StreamCaptureModeThreadLocal)));
    ops();
    KVS_GPU(StreamEndCapture(stream_, &graph));
    const Error error = InstantiateGraph(&entry->second, graph);
    if (error != kSuccess) Fail(__FILE__, __LINE__, "GraphInstantiate", error);
    KVS_GPU(GraphDestroy(graph));
  }
  KVS_GPU(GraphLaunch(entry->second, stream_));
}

}  // namespace kvs::gpu
