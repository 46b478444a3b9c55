#include "cpu/codebook_panels.h"

#include <cmath>
#include <cstdint>
#include <type_traits>
#include <utility>

#define SIMD_KERNELS "cpu/codebook_panels_kernel.h"
#include "cpu/foreach_level.h"

namespace somvae {

template <class T>
void pack_panels_cpu(const T* codebook, int64_t codes, int64_t dim, Compute<T>* packed, int64_t first, int64_t last) {
  SIMD_DISPATCH(pack_panels, codebook, codes, dim, packed, first, last);
}

#define INSTANTIATE(T) template void pack_panels_cpu(const T*, int64_t, int64_t, Compute<T>*, int64_t, int64_t);
SOMVAE_FOR_EACH_DTYPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace somvae
