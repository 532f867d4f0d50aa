#include "emulator/fibers.h"

#include <setjmp.h>
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

namespace kvs::emulator {

Place place;

namespace {

constexpr size_t kStackBytes = 256 * 1024;

[[noreturn]] void Stop(const char* problem) {
  std::fprintf(stderr, "emulator: %s (block %u, thread %u)\n", problem, place.block.x,
               place.thread.x);
  std::fflush(stderr);
  std::abort();
}

// Some of a block's threads, which wait for each other. Two rounds of values are kept: who is slow
// still reads those of the last round while others bring the next.
struct Meeting {
  uint32_t num_live = 0;
  uint32_t num_arrived = 0;
  uint32_t round = 0;
  uint64_t values[2][kMaxWave] = {};
  std::vector<uint32_t> waiting;
};

struct Fiber {
  std::unique_ptr<std::byte[]> stack;
  jmp_buf at;
  bool is_started = false;
};

struct Machine {
  std::vector<Fiber> fibers;
  std::vector<uint32_t> ready;
  uint64_t random = 1;
  std::vector<Meeting> warps, waves;  // of 32 and of 64 threads
  Meeting block;
  uint32_t num_true[2] = {};
  std::vector<std::byte> shared;
  const std::function<void()>* body = nullptr;
  jmp_buf scheduler;
  ucontext_t origin;
  uint32_t running = 0;
};

Machine& machine() {
  static Machine instance;
  return instance;
}

// The running thread gives its turn away. It must be in a list that will make it ready again.
void Suspend() {
  Machine& m = machine();
  if (_setjmp(m.fibers[m.running].at) == 0) _longjmp(m.scheduler, 1);
  place.thread.x = machine().running;
}

void Release(Meeting& meeting) {
  meeting.num_arrived = 0;
  ++meeting.round;
  std::memset(meeting.values[meeting.round % 2], 0, sizeof meeting.values[0]);
  for (const uint32_t fiber : meeting.waiting) machine().ready.push_back(fiber);
  meeting.waiting.clear();
}

void Meet(Meeting& meeting) {
  if (++meeting.num_arrived == meeting.num_live) return Release(meeting);
  meeting.waiting.push_back(machine().running);
  Suspend();
}

void Leave(Meeting& meeting) {
  --meeting.num_live;
  if (meeting.num_live > 0 && meeting.num_arrived == meeting.num_live) Release(meeting);
}

void RunFiber() {
  Machine& m = machine();
  (*m.body)();
  const uint32_t self = m.running;
  Leave(m.warps[self / 32]);
  Leave(m.waves[self / 64]);
  Leave(m.block);
  _longjmp(m.scheduler, 1);
}

void Start(Fiber& fiber) {
  fiber.is_started = true;
  ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = fiber.stack.get();
  context.uc_stack.ss_size = kStackBytes;
  context.uc_link = nullptr;
  makecontext(&context, RunFiber, 0);
  setcontext(&context);
}

void MakeMeetings(std::vector<Meeting>& meetings, uint32_t num_threads, uint32_t width) {
  meetings.assign((num_threads + width - 1) / width, {});
  for (uint32_t i = 0; i < num_threads; ++i) ++meetings[i / width].num_live;
}

// Some thread that is ready: in no order that a kernel could rely on, and the same in every run.
uint32_t TakeAny(Machine& m) {
  m.random = m.random * 6364136223846793005u + 1442695040888963407u;
  std::swap(m.ready[(m.random >> 33) % m.ready.size()], m.ready.back());
  const uint32_t thread = m.ready.back();
  m.ready.pop_back();
  return thread;
}

void RunBlock(uint32_t num_threads) {
  Machine& m = machine();
  while (m.fibers.size() < num_threads) {
    m.fibers.push_back({std::make_unique<std::byte[]>(kStackBytes), {}, false});
  }
  MakeMeetings(m.warps, num_threads, 32);
  MakeMeetings(m.waves, num_threads, 64);
  m.block = {};
  m.block.num_live = num_threads;
  for (uint32_t i = 0; i < num_threads; ++i) {
    m.fibers[i].is_started = false;
    m.ready.push_back(i);
  }
  // Each turn comes back here by a jump.
  _setjmp(m.scheduler);
  if (!m.ready.empty()) {
    m.running = TakeAny(m);
    place.thread = {m.running, 0, 0};
    Fiber& next = m.fibers[m.running];
    if (!next.is_started) Start(next);
    _longjmp(next.at, 1);
  }
  if (m.block.num_live > 0) Stop("not all threads have come to a barrier or an exchange");
}

}  // namespace

void RunGrid(Index grid, Index block, size_t shared_bytes, const std::function<void()>& body) {
  Machine& m = machine();
  if (block.y != 1 || block.z != 1) Stop("blocks have one dimension here");
  m.body = &body;
  place.block_size = block;
  place.grid_size = grid;
  for (uint32_t y = 0; y < grid.y; ++y) {
    for (uint32_t x = 0; x < grid.x; ++x) {
      place.block = {x, y, 0};
      m.shared.assign(shared_bytes + 1024, std::byte{0xff});
      RunBlock(block.x);
    }
  }
}

void* DynamicShared() {
  const auto address = reinterpret_cast<uintptr_t>(machine().shared.data());
  return reinterpret_cast<void*>((address + 1023) / 1024 * 1024);
}

void WaitForBlock() { Meet(machine().block); }

uint32_t CountInBlock(bool value) {
  Machine& m = machine();
  const uint32_t round = m.block.round % 2;
  if (m.block.num_arrived == 0) m.num_true[round] = 0;
  m.num_true[round] += value ? 1 : 0;
  Meet(m.block);
  return m.num_true[round];
}

const uint64_t* Exchange(uint64_t value, uint32_t width) {
  Machine& m = machine();
  Meeting& meeting = width == 32 ? m.warps[m.running / 32] : m.waves[m.running / 64];
  uint64_t* values = meeting.values[meeting.round % 2];
  values[m.running % width] = value;
  Meet(meeting);
  return values;
}

}  // namespace kvs::emulator
