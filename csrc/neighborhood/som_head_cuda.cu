#include "neighborhood/som_head_kernel.cuh"

namespace somvae {

template <class T>
void som_head_cuda(const SomHeadArgs<T>& args, void* stream) {
  if (args.rows == 0) return;
  LAUNCH((som_head_kernel<T>), blocks_for(args.rows, kWarpsPerBlock), kThreads, 0, stream, args);
}

template <class T>
void som_head_backward_cuda(const SomHeadBackwardArgs<T>& args, void* stream) {
  if (args.grad_z != nullptr && args.rows * args.dim > 0) {
    LAUNCH((som_head_backward_z_kernel<T>), blocks_for(args.rows * args.dim, kThreads), kThreads, 0, stream, args);
  }
  if (args.grad_codebook != nullptr && args.nodes * args.dim > 0) {
    LAUNCH((som_head_backward_codebook_kernel<T>), blocks_for(args.nodes * warps_per_code(args.dim), kWarpsPerBlock),
           kThreads, 0, stream, args);
  }
}

#define INSTANTIATE(T)                                       \
  template void som_head_cuda(const SomHeadArgs<T>&, void*); \
  template void som_head_backward_cuda(const SomHeadBackwardArgs<T>&, void*);
SOMVAE_FOR_EACH_DTYPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace somvae
