#include "neighborhood/som_losses_kernel.cuh"

namespace somvae {

template <class T>
void som_losses_cuda(const SomLossesArgs<T>& args, void* stream) {
  if (args.rows == 0) return;
  LAUNCH((som_losses_kernel<T>), blocks_for(args.rows, kRowsPerBlock), kThreads, 0, stream, args);
}

template <class T>
void som_losses_backward_cuda(const SomLossesBackwardArgs<T>& args, void* stream) {
  if (args.grad_z != nullptr && args.rows * args.dim > 0) {
    LAUNCH((som_losses_backward_z_kernel<T>), blocks_for(args.rows * args.dim, kThreads), kThreads, 0, stream, args);
  }
  if (args.grad_codebook != nullptr && args.units * args.dim > 0) {
    LAUNCH((som_losses_backward_codebook_kernel<T>), blocks_for(args.units * args.dim, kThreads), kThreads, 0, stream,
           args);
  }
}

#define INSTANTIATE(T)                                           \
  template void som_losses_cuda(const SomLossesArgs<T>&, void*); \
  template void som_losses_backward_cuda(const SomLossesBackwardArgs<T>&, void*);
SOMVAE_FOR_EACH_DTYPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace somvae
