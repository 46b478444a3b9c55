#include "neighborhood/segment_sum_kernel.cuh"

namespace somvae {

template <class T>
void segment_sum_cuda(const SegmentSumArgs<T>& args, void* stream) {
  const int64_t results = args.segments * args.dim, tile_results = segment_sum_tiles(args.rows) * args.dim;
  if (results == 0) return;
  if (tile_results > 0) {
    LAUNCH((segment_sum_tiles_kernel<T>), blocks_for(tile_results, kThreads), kThreads, 0, stream, args);
  }
  LAUNCH((segment_sum_combine_kernel<T>), blocks_for(results, kThreads), kThreads, 0, stream, args);
}

template <class T>
void segment_sum_backward_cuda(const SegmentSumBackwardArgs<T>& args, void* stream) {
  const int64_t elements = args.rows * args.dim;
  if (elements == 0) return;
  LAUNCH((segment_sum_backward_kernel<T>), blocks_for(elements, kThreads), kThreads, 0, stream, args);
}

#define INSTANTIATE(T)                                             \
  template void segment_sum_cuda(const SegmentSumArgs<T>&, void*); \
  template void segment_sum_backward_cuda(const SegmentSumBackwardArgs<T>&, void*);
SOMVAE_FOR_EACH_DTYPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace somvae
