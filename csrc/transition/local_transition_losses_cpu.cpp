#include <cmath>
#include <cstdint>
#include <type_traits>

#include "index_range.h"
#include "transition/local_transition_losses.h"

#define SIMD_KERNELS "transition/local_transition_losses_cpu_kernel.h"
#include "cpu/foreach_level.h"

namespace somvae {

template <class T>
void codebook_center_cpu(const CodebookMomentsArgs<T>& args) {
  SIMD_DISPATCH(codebook_center, args);
}

template <class T>
void codebook_moments_cpu(const CodebookMomentsArgs<T>& args, int64_t first_chunk, int64_t last_chunk) {
  SIMD_DISPATCH(codebook_moments, args, first_chunk, last_chunk);
}

template <class T>
void codebook_moments_join_cpu(const CodebookMomentsArgs<T>& args) {
  SIMD_DISPATCH(codebook_moments_join, args);
}

template <class T>
void local_transition_losses_cpu(const LocalTransitionLossesArgs<T>& args, int64_t first_group, int64_t last_group) {
  SIMD_DISPATCH(local_transition_losses, args, first_group, last_group);
}

template <class T>
void local_transition_losses_backward_groups_cpu(const LocalTransitionLossesBackwardArgs<T>& args,
                                                 const WindowPull<T>& pull, int64_t first_group, int64_t last_group) {
  SIMD_DISPATCH(local_transition_losses_backward_groups, args, pull, first_group, last_group);
}

template <class T>
void local_transition_losses_backward_join_cpu(const LocalTransitionLossesBackwardArgs<T>& args) {
  SIMD_DISPATCH(local_transition_losses_backward_join, args);
}

template <class T>
void local_transition_losses_backward_codebook_cpu(const LocalTransitionLossesBackwardArgs<T>& args,
                                                   const WindowPull<T>& pull, int64_t first_node, int64_t last_node) {
  SIMD_DISPATCH(local_transition_losses_backward_codebook, args, pull, first_node, last_node);
}

#define INSTANTIATE(T)                                                                                     \
  template void codebook_center_cpu(const CodebookMomentsArgs<T>&);                                        \
  template void codebook_moments_cpu(const CodebookMomentsArgs<T>&, int64_t, int64_t);                     \
  template void codebook_moments_join_cpu(const CodebookMomentsArgs<T>&);                                  \
  template void local_transition_losses_cpu(const LocalTransitionLossesArgs<T>&, int64_t, int64_t);        \
  template void local_transition_losses_backward_groups_cpu(const LocalTransitionLossesBackwardArgs<T>&,   \
                                                            const WindowPull<T>&, int64_t, int64_t);       \
  template void local_transition_losses_backward_join_cpu(const LocalTransitionLossesBackwardArgs<T>&);    \
  template void local_transition_losses_backward_codebook_cpu(const LocalTransitionLossesBackwardArgs<T>&, \
                                                              const WindowPull<T>&, int64_t, int64_t);
SOMVAE_FOR_EACH_DTYPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace somvae
