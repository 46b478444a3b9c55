#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "index_range.h"
#include "transition/transition_log_prob.h"

#define SIMD_KERNELS "transition/transition_log_prob_cpu_kernel.h"
#include "cpu/foreach_level.h"

namespace somvae {

template <class T>
void transition_log_prob_cpu(const TransitionLogProbArgs<T>& args, int64_t first, int64_t last) {
  SIMD_DISPATCH(transition_log_prob, args, first, last);
}

template <class T>
void transition_log_prob_backward_cpu(const TransitionLogProbBackwardArgs<T>& args, int64_t first_group,
                                      int64_t last_group) {
  SIMD_DISPATCH(transition_log_prob_backward, args, first_group, last_group);
}

#define INSTANTIATE(T)                                                                      \
  template void transition_log_prob_cpu(const TransitionLogProbArgs<T>&, int64_t, int64_t); \
  template void transition_log_prob_backward_cpu(const TransitionLogProbBackwardArgs<T>&, int64_t, int64_t);
SOMVAE_FOR_EACH_DTYPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace somvae
