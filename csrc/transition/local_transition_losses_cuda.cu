#include "transition/local_transition_losses_kernel.cuh"

namespace somvae {

template <class T>
void codebook_moments_cuda(const CodebookMomentsArgs<T>& args, void* stream) {
  const int64_t columns = (args.dim + kMomentFeatures - 1) / kMomentFeatures;
  if (args.dim > 0) {
    LAUNCH((codebook_center_kernel<T>), blocks_for(columns, 1), kThreads, 0, stream, args);
    LAUNCH((codebook_moments_kernel<T>), blocks_for(moment_chunks(args.codes) * columns, 1), kThreads, 0, stream, args);
  }
  LAUNCH((codebook_moments_join_kernel<T>), 1, kThreads, 0, stream, args);
}

template <class T>
void local_transition_losses_cuda(const LocalTransitionLossesArgs<T>& args, void* stream) {
  if (args.in.samples == 0) return;
  LAUNCH((local_transition_losses_kernel<T>), blocks_for(args.in.samples, 1), kRowThreads, 0, stream, args);
}

template <class T>
void local_transition_losses_backward_cuda(const LocalTransitionLossesBackwardArgs<T>& args, int64_t* group_of,
                                           void* stream) {
  const int64_t samples = args.in.samples, groups = args.in.groups.count, dim = args.in.dim;
  if (args.grad_logits != nullptr && groups > 0) {
    LAUNCH((local_transition_losses_backward_logits_kernel<T>), blocks_for(groups, 1), kRowThreads, 0, stream, args);
  }
  if (args.grad_z != nullptr && samples * dim > 0) {
    const int64_t blocks = samples * ((dim + kRowThreads - 1) / kRowThreads);
    LAUNCH((local_transition_losses_backward_z_kernel<T>), blocks_for(blocks, 1), kRowThreads, 0, stream, args);
  }
  if (args.grad_codebook != nullptr && dim > 0) {
    if (groups > 0) {
      LAUNCH((local_transition_losses_backward_sums_kernel<T>), blocks_for(groups * (dim + 1), kThreads), kThreads, 0,
             stream, args, group_of);
    }
    LAUNCH((local_transition_losses_backward_total_kernel<T>), blocks_for(dim + 1, kMomentFeatures), kThreads, 0,
           stream, args);
    const int64_t warps = args.in.nodes * ((dim + 32 * kPullFeatures - 1) / (32 * kPullFeatures));
    LAUNCH((local_transition_losses_backward_codebook_kernel<T>), blocks_for(warps, kThreads / 32), kThreads, 0, stream,
           args, group_of);
  }
}

#define INSTANTIATE(T)                                                                    \
  template void codebook_moments_cuda(const CodebookMomentsArgs<T>&, void*);              \
  template void local_transition_losses_cuda(const LocalTransitionLossesArgs<T>&, void*); \
  template void local_transition_losses_backward_cuda(const LocalTransitionLossesBackwardArgs<T>&, int64_t*, void*);
SOMVAE_FOR_EACH_DTYPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace somvae
