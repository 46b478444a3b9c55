#include <algorithm>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>

#include "neighborhood/som_update.h"

#define SIMD_KERNELS "neighborhood/som_update_cpu_kernel.h"
#include "cpu/foreach_level.h"

namespace somvae {

template <class T, class B>
void som_update_cpu(const SomUpdateArgs<T, B>& args, int64_t item_targets, int64_t first_item, int64_t last_item) {
  SIMD_DISPATCH(som_update, args, item_targets, first_item, last_item);
}

template <class T, class B>
void som_update_axes_cpu(const SomUpdateAxesArgs<T, B>& args, int64_t item_features, int64_t first_item,
                         int64_t last_item) {
  SIMD_DISPATCH(som_update_axes, args, item_features, first_item, last_item);
}

#define INSTANTIATE(B)                                                                              \
  template void som_update_cpu(const SomUpdateArgs<float, B>&, int64_t, int64_t, int64_t);          \
  template void som_update_cpu(const SomUpdateArgs<double, B>&, int64_t, int64_t, int64_t);         \
  template void som_update_axes_cpu(const SomUpdateAxesArgs<float, B>&, int64_t, int64_t, int64_t); \
  template void som_update_axes_cpu(const SomUpdateAxesArgs<double, B>&, int64_t, int64_t, int64_t);
SOMVAE_FOR_EACH_DTYPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace somvae
