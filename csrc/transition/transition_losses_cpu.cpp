#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "cpu/codebook_panels.h"
#include "index_range.h"
#include "transition/transition_losses.h"

#define SIMD_KERNELS "transition/transition_losses_cpu_kernel.h"
#include "cpu/foreach_level.h"

namespace somvae {

template <class T>
void transition_losses_cpu(const TransitionLossesArgs<T>& args, const Compute<T>* packed, int64_t first, int64_t last) {
  SIMD_DISPATCH(transition_losses, args, packed, first, last);
}

template <class T>
void transition_losses_backward_prepare_cpu(const TransitionLossesBackwardArgs<T>& args,
                                            const TransitionBackwardWorkspace<Compute<T>>& workspace) {
  SIMD_DISPATCH(transition_losses_backward_prepare, args, workspace);
}

template <class T>
void transition_losses_backward_codes_cpu(const TransitionLossesBackwardArgs<T>& args,
                                          const TransitionBackwardWorkspace<Compute<T>>& workspace, int64_t first_chunk,
                                          int64_t last_chunk) {
  SIMD_DISPATCH(transition_losses_backward_codes, args, workspace, first_chunk, last_chunk);
}

template <class T>
void transition_losses_backward_z_cpu(const TransitionLossesBackwardArgs<T>& args,
                                      const TransitionBackwardWorkspace<Compute<T>>& workspace, int64_t first_group,
                                      int64_t last_group) {
  SIMD_DISPATCH(transition_losses_backward_z, args, workspace, first_group, last_group);
}

#define INSTANTIATE(T)                                                                                           \
  template void transition_losses_cpu(const TransitionLossesArgs<T>&, const Compute<T>*, int64_t, int64_t);      \
  template void transition_losses_backward_prepare_cpu(const TransitionLossesBackwardArgs<T>&,                   \
                                                       const TransitionBackwardWorkspace<Compute<T>>&);          \
  template void transition_losses_backward_codes_cpu(                                                            \
      const TransitionLossesBackwardArgs<T>&, const TransitionBackwardWorkspace<Compute<T>>&, int64_t, int64_t); \
  template void transition_losses_backward_z_cpu(const TransitionLossesBackwardArgs<T>&,                         \
                                                 const TransitionBackwardWorkspace<Compute<T>>&, int64_t, int64_t);
SOMVAE_FOR_EACH_DTYPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace somvae
