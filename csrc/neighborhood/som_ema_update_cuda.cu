#include "neighborhood/som_ema_update_kernel.cuh"

namespace somvae {

template <class A, class T>
void moving_average_cuda(const MovingAverageArgs<A, T>& args, void* stream) {
  if (args.nodes == 0) return;
  LAUNCH((moving_average_kernel<A, T>), blocks_for(moving_average_chunks(args.nodes), 1), kMovingAverageThreads, 0,
         stream, args);
}

void least_count_cuda(const LeastCountArgs& args, void* stream) {
  LAUNCH((least_count_kernel), 1, kThreads, 0, stream, args);
}

template void moving_average_cuda(const MovingAverageArgs<float, float>&, void*);
template void moving_average_cuda(const MovingAverageArgs<float, double>&, void*);
template void moving_average_cuda(const MovingAverageArgs<double, float>&, void*);
template void moving_average_cuda(const MovingAverageArgs<double, double>&, void*);

}  // namespace somvae
