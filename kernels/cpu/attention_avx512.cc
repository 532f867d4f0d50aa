#include "cpu/vec_avx512.h"
// Vec comes before what is written over it.
#include "cpu/attention_bf16.inl"
#include "cpu/kernel_table.h"

namespace kvs::cpu {
namespace {

struct Avx512Products {
  static constexpr uint32_t kTilePositions = 64;
  template <size_t a_stride, size_t b_stride, class Ahead>
  using Op = OpBf16Dot<a_stride, b_stride, Ahead>;
};

}  // namespace

const AttentionKernels kAttentionAvx512 = {
    .query_rows = kMaxQueryRows / 2,
    .pack_queries = &PackQueriesBf16<Avx512Products>,
    .attend = &AttendBf16<Avx512Products>,
    .merge = &MergeStates,
    .finish = &FinishRow,
};

}  // namespace kvs::cpu
