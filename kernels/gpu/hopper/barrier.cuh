// Compute capability 9.0: barriers in shared memory that threads arrive at and wait for apart and
// that count the bytes of bulk copies, named barriers between warpgroups, and registers moved from
// one warpgroup to another.
#pragma once

#include "gpu/gpu.h"

namespace kvs::gpu::hopper {

inline constexpr uint32_t kWarpgroupThreads = 128;

// One barrier in shared memory. Its phases alternate between parity 0 and 1; a phase ends when as
// many threads as it was made for have arrived.
class SharedBarrier {
 public:
  // By one thread, before a block-wide barrier.
  KVS_DEVICE void Init(uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(Address()), "r"(arrivals)
                 : "memory");
  }

  KVS_DEVICE void Arrive() {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(Address()) : "memory");
  }

  // Arrives, and has the phase wait for `bytes` more of copies that name this barrier.
  KVS_DEVICE void ArriveExpecting(uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(Address()),
                 "r"(bytes)
                 : "memory");
  }

  // Whether the phase of this parity has ended: the current one, or the one before it.
  KVS_DEVICE bool HasEnded(uint32_t parity) {
    uint32_t done;
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
        "mbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n"
        "}"
        : "=r"(done)
        : "r"(Address()), "r"(parity)
        : "memory");
    return done != 0;
  }

  // Returns when the phase of this parity has ended: at once if it is the one before the current.
  KVS_DEVICE void Wait(uint32_t parity) {
    uint32_t done = 0;
    do {
      asm volatile(
          "{\n"
          ".reg .pred p;\n"
          "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
          "selp.u32 %0, 1, 0, p;\n"
          "}"
          : "=r"(done)
          : "r"(Address()), "r"(parity)
          : "memory");
    } while (done == 0);
  }

  KVS_DEVICE uint32_t Address() const {
    return static_cast<uint32_t>(__cvta_generic_to_shared(&bits_));
  }

 private:
  uint64_t bits_;
};

// Shows the copy engine the barriers that this thread has made.
KVS_DEVICE void FenceInit() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

// A place in a ring of stages, with the parity of a barrier's phase there.
struct RingPlace {
  uint32_t slot = 0;
  uint32_t parity;

  KVS_DEVICE void Advance(uint32_t num_stages) {
    if (++slot < num_stages) return;
    slot = 0;
    parity ^= 1;
  }
};

// Orders stores to shared memory before matrix instructions that read it: by the thread that
// stored, before a barrier.
KVS_DEVICE void FenceForMatrixReads() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Barrier `name` (1..15; 0 is __syncthreads) of `threads` threads, of which some wait and the
// others arrive only.
KVS_DEVICE void WaitNamedBarrier(uint32_t name, uint32_t threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(name), "r"(threads) : "memory");
}
KVS_DEVICE void ArriveNamedBarrier(uint32_t name, uint32_t threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(name), "r"(threads) : "memory");
}

// Registers per thread of the calling warpgroup from here on; a multiple of 8.
template <uint32_t kCount>
KVS_DEVICE void TakeRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <uint32_t kCount>
KVS_DEVICE void GiveRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}

}  // namespace kvs::gpu::hopper
