#include <algorithm>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>

#include "index_range.h"
#include "neighborhood/segment_sum.h"

#define SIMD_KERNELS "neighborhood/segment_sum_cpu_kernel.h"
#include "cpu/foreach_level.h"

namespace somvae {

template <class T>
void segment_scatter_cpu(const SegmentScatterArgs<T>& args, int64_t chunk, int64_t first_feature,
                         int64_t last_feature) {
  SIMD_DISPATCH(segment_scatter, args, chunk, first_feature, last_feature);
}

template <class T>
void segment_combine_cpu(const SegmentScatterArgs<T>& args, int64_t first_segment, int64_t last_segment) {
  SIMD_DISPATCH(segment_combine, args, first_segment, last_segment);
}

template <class T>
void segment_sum_cpu(const SegmentSumArgs<T>& args, int64_t first_segment, int64_t last_segment) {
  SIMD_DISPATCH(segment_sum, args, first_segment, last_segment);
}

template <class T>
void segment_sum_backward_cpu(const SegmentSumBackwardArgs<T>& args, int64_t first_row, int64_t last_row) {
  SIMD_DISPATCH(segment_sum_backward, args, first_row, last_row);
}

#define INSTANTIATE(T)                                                                        \
  template void segment_scatter_cpu(const SegmentScatterArgs<T>&, int64_t, int64_t, int64_t); \
  template void segment_combine_cpu(const SegmentScatterArgs<T>&, int64_t, int64_t);          \
  template void segment_sum_cpu(const SegmentSumArgs<T>&, int64_t, int64_t);                  \
  template void segment_sum_backward_cpu(const SegmentSumBackwardArgs<T>&, int64_t, int64_t);
SOMVAE_FOR_EACH_DTYPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace somvae
