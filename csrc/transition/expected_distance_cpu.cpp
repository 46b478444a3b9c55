#include <cmath>
#include <cstdint>
#include <type_traits>

#include "cpu/codebook_panels.h"
#include "index_range.h"
#include "transition/expected_distance.h"
#include "transition/gradient_row.h"

#define SIMD_KERNELS "transition/expected_distance_cpu_kernel.h"
#include "cpu/foreach_level.h"

namespace somvae {

template <class T>
void expected_distance_cpu(const ExpectedDistanceArgs<T>& args, const Compute<T>* packed, int64_t first_row,
                           int64_t last_row) {
  SIMD_DISPATCH(expected_distance, args, packed, first_row, last_row);
}

template <class T>
void expected_distance_backward_logits_cpu(const ExpectedDistanceBackwardArgs<T>& args, const Compute<T>* packed,
                                           int64_t first, int64_t last) {
  SIMD_DISPATCH(expected_distance_backward_logits, args, packed, first, last);
}

template <class T>
void expected_distance_backward_z_cpu(const ExpectedDistanceBackwardArgs<T>& args, int64_t first_row,
                                      int64_t last_row) {
  SIMD_DISPATCH(expected_distance_backward_z, args, first_row, last_row);
}

template <class T>
void expected_distance_backward_codebook_cpu(const ExpectedDistanceBackwardArgs<T>& args, int64_t first_unit,
                                             int64_t last_unit) {
  SIMD_DISPATCH(expected_distance_backward_codebook, args, first_unit, last_unit);
}

#define INSTANTIATE(T)                                                                                           \
  template void expected_distance_cpu(const ExpectedDistanceArgs<T>&, const Compute<T>*, int64_t, int64_t);      \
  template void expected_distance_backward_logits_cpu(const ExpectedDistanceBackwardArgs<T>&, const Compute<T>*, \
                                                      int64_t, int64_t);                                         \
  template void expected_distance_backward_z_cpu(const ExpectedDistanceBackwardArgs<T>&, int64_t, int64_t);      \
  template void expected_distance_backward_codebook_cpu(const ExpectedDistanceBackwardArgs<T>&, int64_t, int64_t);
SOMVAE_FOR_EACH_DTYPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace somvae
