#include "bmu/bmu_kernel.cuh"

namespace somvae {

template <class T>
void bmu_cuda(const BmuArgs<T>& args, void* stream) {
  if (args.rows == 0) return;
  const unsigned blocks = blocks_for(args.rows, kTile);
  if (args.k == 1) {
    LAUNCH((bmu_kernel<T, 1>), blocks, kTileThreads, 0, stream, args);
  } else {
    LAUNCH((bmu_kernel<T, 2>), blocks, kTileThreads, 0, stream, args);
  }
}

template <class T>
void bmu_backward_cuda(const BmuBackwardArgs<T>& args, void* stream) {
  if (args.grad_z != nullptr && args.rows * args.dim > 0) {
    LAUNCH((bmu_backward_z_kernel<T>), blocks_for(args.rows * args.dim, kThreads), kThreads, 0, stream, args);
  }
  if (args.grad_codebook != nullptr && args.units * args.dim > 0) {
    LAUNCH((bmu_backward_codebook_kernel<T>), blocks_for(args.units * args.dim, kThreads), kThreads, 0, stream, args);
  }
}

#define INSTANTIATE(T)                              \
  template void bmu_cuda(const BmuArgs<T>&, void*); \
  template void bmu_backward_cuda(const BmuBackwardArgs<T>&, void*);
SOMVAE_FOR_EACH_DTYPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace somvae
