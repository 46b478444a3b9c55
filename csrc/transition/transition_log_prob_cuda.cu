#include "cuda/launch.cuh"
#include "transition/transition_log_prob_kernel.cuh"

namespace somvae {

template <class T>
void transition_log_prob_cuda(const TransitionLogProbArgs<T>& args, void* stream) {
  if (args.rows == 0) return;
  LAUNCH((transition_log_prob_kernel<T>), blocks_for(args.rows, 1), kRowThreads, 0, stream, args);
}

template <class T>
void transition_log_prob_backward_cuda(const TransitionLogProbBackwardArgs<T>& args, void* stream) {
  if (args.groups.count == 0) return;
  LAUNCH((transition_log_prob_backward_kernel<T>), blocks_for(args.groups.count, 1), kRowThreads, 0, stream, args);
}

#define INSTANTIATE(T)                                                            \
  template void transition_log_prob_cuda(const TransitionLogProbArgs<T>&, void*); \
  template void transition_log_prob_backward_cuda(const TransitionLogProbBackwardArgs<T>&, void*);
SOMVAE_FOR_EACH_DTYPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace somvae
