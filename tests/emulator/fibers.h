// A GPU's threads as fibers of one thread: blocks run one after another, the threads of a block by
// turns in a random order, so that a barrier that is missing shows, and every barrier and every
// exchange between lanes is a place where a thread waits for the others. A kernel that would hang
// on a device, since not all threads reach a barrier or all lanes an exchange, ends the process
// with a message here.
//
// Not thread-safe: kernels are launched from one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace kvs::emulator {

struct Index {
  uint32_t x = 1, y = 1, z = 1;
};

// What runs now.
struct Place {
  Index thread, block, block_size, grid_size;
};
extern Place place;

inline constexpr uint32_t kMaxWave = 64;

// Runs `body` in every thread of every block. `shared_bytes` of dynamic shared memory are filled
// with bytes that are NaN in every float format before each block. Blocks are one-dimensional.
void RunGrid(Index grid, Index block, size_t shared_bytes, const std::function<void()>& body);

void* DynamicShared();

// Until all threads of the block have come. Threads that have returned count as come.
void WaitForBlock();
// The same, and how many of them brought true.
uint32_t CountInBlock(bool value);

// Between the `width` lanes (32 or 64, whole groups of the block's threads) that this thread
// belongs to. Until all of them have brought a value; what they brought, by lane; values of lanes
// that have returned are 0. The array stays as it is until this thread's next exchange.
const uint64_t* Exchange(uint64_t value, uint32_t width);

}  // namespace kvs::emulator
