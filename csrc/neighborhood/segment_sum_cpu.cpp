#include <cstdint>
#include <type_traits>

#include "index_range.h"
#include "neighborhood/segment_sum.h"

#define SIMD_KERNELS "neighborhood/segment_sum_cpu_kernel.h"
#include "cpu/foreach_level.h"

namespace somvae {

template <class T>
void segment_sum_cpu(const SegmentSumArgs<T>& args, int64_t first_segment, int64_t last_segment) {
  SIMD_DISPATCH(segment_sum, args, first_segment, last_segment);
}

template <class T>
void segment_sum_backward_cpu(const SegmentSumBackwardArgs<T>& args, int64_t first_row, int64_t last_row) {
  SIMD_DISPATCH(segment_sum_backward, args, first_row, last_row);
}

#define INSTANTIATE(T)                                                       \
  template void segment_sum_cpu(const SegmentSumArgs<T>&, int64_t, int64_t); \
  template void segment_sum_backward_cpu(const SegmentSumBackwardArgs<T>&, int64_t, int64_t);
SOMVAE_FOR_EACH_DTYPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace somvae
