#include "neighborhood/som_gather_kernel.cuh"

namespace somvae {

template <class T>
void som_gather_cuda(const SomGatherArgs<T>& args, void* stream) {
  const int64_t elements = args.rows * (1 + args.slots) * args.dim;
  if (elements == 0) return;
  LAUNCH((som_gather_kernel<T>), blocks_for(elements, kThreads), kThreads, 0, stream, args);
}

template <class T>
void som_gather_backward_cuda(const SomGatherBackwardArgs<T>& args, void* stream) {
  const int64_t elements = args.nodes * args.dim;
  if (elements == 0) return;
  LAUNCH((som_gather_backward_kernel<T>), blocks_for(elements, kThreads), kThreads, 0, stream, args);
}

#define INSTANTIATE(T)                                           \
  template void som_gather_cuda(const SomGatherArgs<T>&, void*); \
  template void som_gather_backward_cuda(const SomGatherBackwardArgs<T>&, void*);
SOMVAE_FOR_EACH_DTYPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace somvae
