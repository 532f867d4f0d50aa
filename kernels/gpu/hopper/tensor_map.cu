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

}  // namespace

TensorMap MapOfKv(const KvView& kv) {
  static const auto encode = Encoder();
  const KvLayout& layout = kv.layout;
  KVS_CHECK_OP(SizeOf(layout.dtype), ==, 2u);
  // How many blocks there are is not known here, and the engine is only sent to those that are.
  constexpr cuuint64_t kRows = cuuint64_t{1} << 31;
  const cuuint64_t sizes[2] = {layout.head_dim, kRows};
  const cuuint64_t row_bytes = cuuint64_t{2} * layout.head_dim;
  const cuuint32_t box[2] = {64, kKvBoxRows};
  const cuuint32_t steps[2] = {1, 1};
  TensorMap map;
  const CUresult result =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_UINT16, 2, kv.data, sizes, &row_bytes, box, steps,
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  KVS_CHECK_OP(static_cast<int>(result), ==, 0);
  return map;
}

}  // namespace kvs::gpu::hopper
