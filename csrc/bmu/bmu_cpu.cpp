#include <cmath>
#include <cstdint>
#include <type_traits>

#include "bmu/best_units.h"
#include "bmu/bmu.h"
#include "cpu/codebook_panels.h"

#define SIMD_KERNELS "bmu/bmu_cpu_kernel.h"
#include "cpu/foreach_level.h"

namespace somvae {

template <class T>
void bmu_cpu(const BmuArgs<T>& args, const Compute<T>* packed, int64_t first, int64_t last) {
  SIMD_DISPATCH(bmu, args, packed, first, last);
}

template <class T>
void bmu_backward_z_cpu(const BmuBackwardArgs<T>& args, int64_t first_row, int64_t last_row) {
  SIMD_DISPATCH(bmu_backward_z, args, first_row, last_row);
}

template <class T>
void bmu_backward_codebook_cpu(const BmuBackwardArgs<T>& args, int64_t first_unit, int64_t last_unit) {
  SIMD_DISPATCH(bmu_backward_codebook, args, first_unit, last_unit);
}

#define INSTANTIATE(T)                                                           \
  template void bmu_cpu(const BmuArgs<T>&, const Compute<T>*, int64_t, int64_t); \
  template void bmu_backward_z_cpu(const BmuBackwardArgs<T>&, int64_t, int64_t); \
  template void bmu_backward_codebook_cpu(const BmuBackwardArgs<T>&, int64_t, int64_t);
SOMVAE_FOR_EACH_DTYPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace somvae
