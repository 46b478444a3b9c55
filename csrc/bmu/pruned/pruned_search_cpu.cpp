#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include "bmu/best_codes.h"
#include "bmu/exact_scores.h"
#include "bmu/pruned/map_index.h"
#include "bmu/score_limit.h"
#include "cpu/codebook_panels.h"
#include "index_range.h"

#define SIMD_KERNELS "bmu/pruned/pruned_search_cpu_kernel.h"
#include "cpu/foreach_level.h"

namespace somvae {

template <class T>
SearchWork pruned_search_cpu(const PrunedSearchArgs<T>& args, int64_t first, int64_t last) {
  SIMD_DISPATCH(pruned_search, args, first, last);
}

#define INSTANTIATE(T) template SearchWork pruned_search_cpu(const PrunedSearchArgs<T>&, int64_t, int64_t);
SOMVAE_FOR_EACH_DTYPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace somvae
