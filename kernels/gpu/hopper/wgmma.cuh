// Compute capability 9.0: matrix products of one warpgroup (128 threads, the first a multiple of
// 128), asynchronous, with A in registers and B in shared memory.
//
// A warp has 16 of the 64 rows; A and the result are held as in mma.cuh. B is a tile of
// paged_prefill_copy.cuh: panels of 64 columns, rows of 128 bytes, swizzled over 128 bytes.
#pragma once

#include <type_traits>

#include "gpu/gpu.h"

namespace kvs::gpu::hopper {

// Describes B at `tile` to the hardware. `panel_bytes` is the distance of panels, and used where
// B's rows are k and its columns run through more than one panel; `rows_bytes` that of eight rows
// from the next eight.
KVS_DEVICE uint64_t DescribeTile(const void* tile, uint32_t panel_bytes,
                                 uint32_t rows_bytes = 1024) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
  // The same in all lanes, which the compiler does not see by itself.
  const uint64_t address = ShuffleFrom(static_cast<uint32_t>(__cvta_generic_to_shared(tile)), 0);
  return kSwizzle128 | uint64_t{rows_bytes / 16} << 32 | uint64_t{panel_bytes / 16} << 16 |
         (address & 0x3ffff) >> 4;
}

// The same tile, `bytes` further on.
KVS_DEVICE uint64_t Advance(uint64_t description, uint32_t bytes) {
  return description + bytes / 16;
}

// Registers that a product reads or writes must not be touched from the call that issues it until
// Wait, and the compiler does not know: it learns of it here, before the first call and after the
// Wait.
template <uint32_t kBlocks>
KVS_DEVICE void FenceRegisters(float (&values)[kBlocks][4]) {
#pragma unroll
  for (uint32_t n = 0; n < kBlocks; ++n) {
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) asm volatile("" : "+f"(values[n][i])::"memory");
  }
}

// Before the first product that touches registers which other instructions wrote.
KVS_DEVICE void BeginProducts() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
// Closes a group of products.
KVS_DEVICE void CommitProducts() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Until at most kPending groups are still running.
template <int kPending>
KVS_DEVICE void WaitProducts() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

#define KVS_ROWS1(n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define KVS_ROWS4(n) KVS_ROWS1(n), KVS_ROWS1(n + 1), KVS_ROWS1(n + 2), KVS_ROWS1(n + 3)
#define KVS_ROWS8(n) KVS_ROWS4(n), KVS_ROWS4(n + 4)
#define KVS_ROWS16(n) KVS_ROWS8(n), KVS_ROWS8(n + 8)
#define KVS_NAMES4 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define KVS_NAMES8 \
  KVS_NAMES4 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define KVS_NAMES16                                                                  \
  KVS_NAMES8                                                                         \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47" \
  ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
// `operands` names what stands behind d: a, and b.
#define KVS_WGMMA(n, type, names, operands, accumulates, rows_are_k, ...)                       \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " accumulates                                  \
               ", 0;\n"                                                                         \
               "wgmma.mma_async.sync.aligned.m64n" n "k16.f32." type "." type " {" names        \
               "}, " operands ", p, 1, 1, " rows_are_k ";\n}"                                   \
               : __VA_ARGS__                                                                    \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(uint32_t{accumulate}), \
                 "n"(kRowsAreK ? 1 : 0))
#define KVS_WGMMA_N32(type) \
  KVS_WGMMA("32", type, KVS_NAMES4, "{%16, %17, %18, %19}, %20", "%21", "%22", KVS_ROWS4(0))
#define KVS_WGMMA_N64(type) \
  KVS_WGMMA("64", type, KVS_NAMES8, "{%32, %33, %34, %35}, %36", "%37", "%38", KVS_ROWS8(0))
#define KVS_WGMMA_N128(type) \
  KVS_WGMMA("128", type, KVS_NAMES16, "{%64, %65, %66, %67}, %68", "%69", "%70", KVS_ROWS16(0))
#define KVS_MULTIPLY(wgmma)               \
  if constexpr (std::is_same_v<T, F16>) { \
    wgmma("f16");                         \
  } else {                                \
    wgmma("bf16");                        \
  }

// d = a * b, or d += a * b: [64 x 16] times 16 x 32, 16 x 64 or 16 x 128. The tile's rows are B's
// columns (n), or with kRowsAreK its rows (k). T is F16 or Bf16.
template <class T, bool kRowsAreK>
KVS_DEVICE void Multiply(float (&d)[4][4], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
  KVS_MULTIPLY(KVS_WGMMA_N32)
}
template <class T, bool kRowsAreK>
KVS_DEVICE void Multiply(float (&d)[8][4], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
  KVS_MULTIPLY(KVS_WGMMA_N64)
}
template <class T, bool kRowsAreK>
KVS_DEVICE void Multiply(float (&d)[16][4], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
  KVS_MULTIPLY(KVS_WGMMA_N128)
}

#undef KVS_MULTIPLY
#undef KVS_WGMMA_N128
#undef KVS_WGMMA_N64
#undef KVS_WGMMA_N32
#undef KVS_WGMMA
#undef KVS_NAMES16
#undef KVS_NAMES8
#undef KVS_NAMES4
#undef KVS_ROWS16
#undef KVS_ROWS8
#undef KVS_ROWS4
#undef KVS_ROWS1

#endif

}  // namespace kvs::gpu::hopper
