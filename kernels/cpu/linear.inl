#pragma once

// The generic part of LinearKernels over Vec: float32 activations.

#include "cpu/linear.h"
#include "cpu/tile.inl"

namespace kvs::cpu {
namespace {

inline constexpr size_t kXRowFloats = kXRowBytes / sizeof(float);
inline constexpr uint32_t kBlockKFloat = 512;

template <class Op>
void RunBlock(const LinearBlock& block) {
  const auto* x = reinterpret_cast<const typename Op::A*>(block.x);
  TileArgs<Op> args{
      .a = x,
      .b = reinterpret_cast<const typename Op::B*>(block.panel),
      .c = block.out,
      .c_stride = block.out_stride,
      .steps = static_cast<uint32_t>((block.k + Op::kKPerStep - 1) / Op::kKPerStep),
      .cols = block.cols,
      .accumulate = block.accumulate,
  };
  for (uint32_t row = 0; row < block.rows; row += Vec::kTileRows) {
    args.a = x + row * Op::kAStride;
    args.c = block.out + row * block.out_stride;
    // The first rows bring the panel that follows, the others find it asked for.
    args.ahead[0] = row == 0 && block.next != nullptr ? block.next : block.panel;
    const uint32_t left = block.rows - row;
    Tile<Op>(left < Vec::kTileRows ? left : Vec::kTileRows, args);
  }
}

inline void PackXFloat(const float* in, uint32_t k, uint8_t* out) {
  auto* to = reinterpret_cast<float*>(out);
  for (uint32_t i = 0; i < k; ++i) to[i] = in[i];
  if (k % 2 != 0) to[k] = 0.0f;
}

inline constexpr LinearKernel kLinearKernelF16 = {kBlockKFloat, &PackXFloat,
                                                  &RunBlock<OpF16<kXRowFloats, kPanelCols>>};
inline constexpr LinearKernel kLinearKernelF32 = {kBlockKFloat, &PackXFloat,
                                                  &RunBlock<OpF32<kXRowFloats, kPanelCols>>};

}  // namespace
}  // namespace kvs::cpu
