#include <cmath>
#include <cstdint>
#include <type_traits>

#include "neighborhood/som_gather.h"
#include "neighborhood/winners.h"

#define SIMD_KERNELS "neighborhood/som_gather_cpu_kernel.h"
#include "cpu/foreach_level.h"

namespace somvae {

template <class T>
void som_gather_cpu(const SomGatherArgs<T>& args, int64_t first_row, int64_t last_row) {
  SIMD_DISPATCH(som_gather, args, first_row, last_row);
}

template <class T>
void som_gather_backward_cpu(const SomGatherBackwardArgs<T>& args, int64_t first_node, int64_t last_node) {
  SIMD_DISPATCH(som_gather_backward, args, first_node, last_node);
}

#define INSTANTIATE(T)                                                     \
  template void som_gather_cpu(const SomGatherArgs<T>&, int64_t, int64_t); \
  template void som_gather_backward_cpu(const SomGatherBackwardArgs<T>&, int64_t, int64_t);
SOMVAE_FOR_EACH_DTYPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace somvae
