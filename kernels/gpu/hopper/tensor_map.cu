#include "gpu/hopper/tensor_map.h"

#include <cudaTypedefs.h>

#include <array>

#include "kvserve/check.h"

namespace kvs::gpu::hopper {
namespace {

// The driver's, without linking to it.
PFN_cuTensorMapEncodeTiled_v12000 Encoder() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  KVS_GPU(GetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                       cudaEnableDefault, &found));
  KVS_CHECK(found == cudaDriverEntryPointSuccess);
  return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function);
}

// Bytes of kDims dimensions, the first without gaps; `strides` are those of the others, and
// `promotion` is what the second-level cache reads at once.
template <size_t kDims>
TensorMap MapOf(const void* data, const std::array<cuuint64_t, kDims>& sizes,
                const std::array<cuuint64_t, kDims - 1>& strides,
                const std::array<cuuint32_t, kDims>& box, CUtensorMapL2promotion promotion) {
  static const auto encode = Encoder();
  std::array<cuuint32_t, kDims> steps;
  steps.fill(1);
  TensorMap map;
  const CUresult result =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_UINT8, kDims, const_cast<void*>(data), sizes.data(),
             strides.data(), box.data(), steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE,
             CU_TENSOR_MAP_SWIZZLE_128B, promotion, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  KVS_CHECK_OP(static_cast<int>(result), ==, 0);
  return map;
}
TensorMap MapOfBoxes(const void* data, cuuint64_t num_rows, cuuint64_t row_bytes, uint32_t box_rows,
                     CUtensorMapL2promotion promotion) {
  return MapOf<2>(data, {row_bytes, num_rows}, {row_bytes}, {kBoxBytes, box_rows}, promotion);
}

}  // namespace

TensorMap MapOfKv(const KvView& kv) {
  const KvLayout& layout = kv.layout;
  KVS_CHECK_OP(SizeOf(layout.dtype), ==, 2u);
  // How many blocks there are is not known here, and the engine is only sent to those that are.
  return MapOfBoxes(kv.data, cuuint64_t{1} << 31, cuuint64_t{2} * layout.head_dim, kKvBoxRows,
                    CU_TENSOR_MAP_L2_PROMOTION_L2_128B);
}

TensorMap MapOfMatrix(const void* data, uint32_t num_rows, uint32_t row_bytes, uint32_t box_rows) {
  // A box's neighbour, which is asked for next, comes on the way.
  return MapOfBoxes(data, num_rows, row_bytes, box_rows, CU_TENSOR_MAP_L2_PROMOTION_L2_256B);
}

TensorMap MapOfTiles(const void* data, uint32_t num_rows, uint32_t row_bytes, uint32_t box_rows,
                     uint32_t box_panels, uint32_t read_bytes) {
  return MapOf<4>(
      data, {kBoxBytes, 8, row_bytes / kBoxBytes, num_rows / 8},
      {row_bytes, kBoxBytes, cuuint64_t{8} * row_bytes}, {kBoxBytes, 8, box_panels, box_rows / 8},
      read_bytes == 256 ? CU_TENSOR_MAP_L2_PROMOTION_L2_256B : CU_TENSOR_MAP_L2_PROMOTION_L2_128B);
}

}  // namespace kvs::gpu::hopper
