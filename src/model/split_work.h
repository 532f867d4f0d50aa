// Work on the host's memory while weights are loaded, split between threads of its own: the
// backend's belong to the steps.
#pragma once

#include <cstddef>
#include <functional>

namespace kvs {

// Calls `piece(begin, end)` for ranges that together cover [0, count), each but the last a multiple
// of `grain` long, from several threads at once. Returns when all have returned. `piece` does not
// throw.
void SplitWork(size_t count, size_t grain,
               const std::function<void(size_t begin, size_t end)>& piece);

}  // namespace kvs
