#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "bmu/best_codes.h"
#include "bmu/exact_scores.h"
#include "cpu/codebook_panels.h"

#define SIMD_KERNELS "bmu/exact_scores_cpu_kernel.h"
#include "cpu/foreach_level.h"

namespace somvae {

template <class T>
void pair_scores_cpu(const T* const* rows, const T* const* codes, int64_t count, int64_t dim, double* score) {
  SIMD_DISPATCH_EXACT(pair_scores, rows, codes, count, dim, score);
}

template <class T>
void exact_search_cpu(const SearchedCodes<T>& codes, const T* const* rows, int64_t count, int k, double* score,
                      int64_t* index) {
  SIMD_DISPATCH_EXACT(exact_search, codes, rows, count, k, score, index);
}

#define INSTANTIATE(T)                                                                        \
  template void pair_scores_cpu(const T* const*, const T* const*, int64_t, int64_t, double*); \
  template void exact_search_cpu(const SearchedCodes<T>&, const T* const*, int64_t, int, double*, int64_t*);
SOMVAE_FOR_EACH_DTYPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace somvae
