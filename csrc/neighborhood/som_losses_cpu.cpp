#include <cmath>
#include <cstdint>
#include <type_traits>

#include "neighborhood/som_losses.h"
#include "neighborhood/winners.h"

#define SIMD_KERNELS "neighborhood/som_losses_cpu_kernel.h"
#include "cpu/foreach_level.h"

namespace somvae {

template <class T>
void som_losses_cpu(const SomLossesArgs<T>& args, int64_t first_row, int64_t last_row) {
  SIMD_DISPATCH(som_losses, args, first_row, last_row);
}

template <class T>
void som_losses_backward_z_cpu(const SomLossesBackwardArgs<T>& args, int64_t first_row, int64_t last_row) {
  SIMD_DISPATCH(som_losses_backward_z, args, first_row, last_row);
}

template <class T>
void som_losses_backward_codebook_cpu(const SomLossesBackwardArgs<T>& args, int64_t first_unit, int64_t last_unit) {
  SIMD_DISPATCH(som_losses_backward_codebook, args, first_unit, last_unit);
}

#define INSTANTIATE(T)                                                                        \
  template void som_losses_cpu(const SomLossesArgs<T>&, int64_t, int64_t);                    \
  template void som_losses_backward_z_cpu(const SomLossesBackwardArgs<T>&, int64_t, int64_t); \
  template void som_losses_backward_codebook_cpu(const SomLossesBackwardArgs<T>&, int64_t, int64_t);
SOMVAE_FOR_EACH_DTYPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace somvae
