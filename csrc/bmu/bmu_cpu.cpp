#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include "bmu/best_codes.h"
#include "bmu/bmu.h"
#include "bmu/exact_scores.h"
#include "bmu/score_limit.h"
#include "cpu/codebook_panels.h"

#define SIMD_KERNELS "bmu/bmu_cpu_kernel.h"
#include "cpu/foreach_level.h"

namespace somvae {

template <class T>
void bmu_cpu(const BmuArgs<T>& args, int64_t first_row, int64_t last_row, int64_t first_panel, int64_t last_panel,
             double* score) {
  SIMD_DISPATCH(bmu, args, first_row, last_row, first_panel, last_panel, score);
}

namespace {

template <int k, class T>
void join(const BmuArgs<T>& args, const double* score, const int64_t* index, int64_t shares) {
  for (int64_t row = 0; row < args.rows; ++row) {
    BestCodes<double, int64_t, k> best;
    best.reset();
    for (int64_t share = 0; share < shares; ++share) {
      for (int i = 0; i < k; ++i) {
        const int64_t entry = (share * args.rows + row) * k + i;
        best.offer(score[entry], index[entry]);
      }
    }
    for (int i = 0; i < k; ++i) {
      args.distance[row * k + i] = static_cast<Compute<T>>(best.score[i]);
      args.index[row * k + i] = best.index[i];
    }
  }
}

}  // namespace

template <class T>
void bmu_join_cpu(const BmuArgs<T>& args, const double* score, const int64_t* index, int64_t shares) {
  [[maybe_unused]] const KeepSubnormals exact;
  if (args.k == 1) {
    join<1>(args, score, index, shares);
  } else {
    join<2>(args, score, index, shares);
  }
}

template <class T>
void bmu_backward_z_cpu(const BmuBackwardArgs<T>& args, int64_t first_row, int64_t last_row) {
  SIMD_DISPATCH(bmu_backward_z, args, first_row, last_row);
}

template <class T>
void bmu_backward_codebook_cpu(const BmuBackwardArgs<T>& args, int64_t first_code, int64_t last_code) {
  SIMD_DISPATCH(bmu_backward_codebook, args, first_code, last_code);
}

#define INSTANTIATE(T)                                                                   \
  template void bmu_cpu(const BmuArgs<T>&, int64_t, int64_t, int64_t, int64_t, double*); \
  template void bmu_join_cpu(const BmuArgs<T>&, const double*, const int64_t*, int64_t); \
  template void bmu_backward_z_cpu(const BmuBackwardArgs<T>&, int64_t, int64_t);         \
  template void bmu_backward_codebook_cpu(const BmuBackwardArgs<T>&, int64_t, int64_t);
SOMVAE_FOR_EACH_DTYPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace somvae
