#include "gpu/hopper/tensor_map.h"

#include <cudaTypedefs.h>

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

// `promotion`: what the second-level cache reads at once.
TensorMap MapOfBoxes(const void* data, cuuint64_t num_rows, cuuint64_t row_bytes, uint32_t box_rows,
                     CUtensorMapL2promotion promotion) {
  static const auto encode = Encoder();
  const cuuint64_t sizes[2] = {row_bytes, num_rows};
  const cuuint32_t box[2] = {kBoxBytes, box_rows};
  const cuuint32_t steps[2] = {1, 1};
  TensorMap map;
  const CUresult result =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 2, const_cast<void*>(data), sizes, &row_bytes,
             box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, promotion,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  KVS_CHECK_OP(static_cast<int>(result), ==, 0);
  return map;
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

}  // namespace kvs::gpu::hopper
