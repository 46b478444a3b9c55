#include "transition/expected_distance_kernel.cuh"

namespace somvae {

template <class T>
void expected_distance_cuda(const ExpectedDistanceArgs<T>& args, void* stream) {
  if (args.rows == 0) return;
  LAUNCH((log_normalizer_kernel<T>), blocks_for(args.rows, 1), kRowThreads, 0, stream, args);
  LAUNCH((expected_distance_kernel<T>), blocks_for(args.rows, kTile), kTileThreads, 0, stream, args);
}

template <class T>
void expected_distance_backward_cuda(const ExpectedDistanceBackwardArgs<T>& args, void* stream) {
  if (args.grad_logits != nullptr && gradient_rows(args) > 0) {
    const int64_t blocks = gradient_rows(args) * ((args.units + kRowThreads - 1) / kRowThreads);
    LAUNCH((expected_distance_backward_logits_kernel<T>), blocks_for(blocks, 1), kRowThreads, 0, stream, args);
  }
  if (args.grad_z != nullptr && args.rows * args.dim > 0) {
    const int64_t blocks = args.rows * ((args.dim + kRowThreads - 1) / kRowThreads);
    LAUNCH((expected_distance_backward_z_kernel<T>), blocks_for(blocks, 1), kRowThreads, 0, stream, args);
  }
  if (args.grad_codebook != nullptr && args.units * args.dim > 0) {
    const int64_t blocks =
        (args.units + kGradientCodes - 1) / kGradientCodes * ((args.dim + kGradientFeatures - 1) / kGradientFeatures);
    LAUNCH((expected_distance_backward_codebook_kernel<T>), blocks_for(blocks, 1), kThreads, 0, stream, args);
  }
}

#define INSTANTIATE(T)                                                         \
  template void expected_distance_cuda(const ExpectedDistanceArgs<T>&, void*); \
  template void expected_distance_backward_cuda(const ExpectedDistanceBackwardArgs<T>&, void*);
SOMVAE_FOR_EACH_DTYPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace somvae
