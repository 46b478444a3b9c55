// CUDA moving averages: one block per chunk of nodes, one warp per node.
#pragma once
#include "cuda/launch.cuh"
#include "cuda/reduce.cuh"
#include "neighborhood/som_ema_update.h"

namespace somvae {

constexpr int kMovingAverageThreads = kMovingAverageChunk * 32;

template <class A, class T>
__global__ void __launch_bounds__(kMovingAverageThreads) moving_average_kernel(MovingAverageArgs<A, T> args) {
  __shared__ double averaged[kMovingAverageChunk];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const MovingAverage<A> average(args.decay);
  for (int64_t chunk = blockIdx.x; chunk < moving_average_chunks(args.nodes); chunk += gridDim.x) {
    const int64_t node = chunk * kMovingAverageChunk + warp;
    if (node < args.nodes) {  // the same for the whole warp
      const T* const sum = args.sum + node * args.dim;
      A* const ema_sum = args.ema_sum + node * args.dim;
      const A count = A(args.count[node]);
      bool finite = count - count == 0;
      for (int64_t d = lane; d < args.dim; d += 32) {
        const A value = A(sum[d]);
        finite = finite && value - value == 0;
      }
      finite = __all_sync(kFullWarp, finite);
      for (int64_t d = lane; d < args.dim; d += 32) ema_sum[d] = average(ema_sum[d], finite ? A(sum[d]) : A(0));
      if (lane == 0) {
        const A mean = average(args.ema_count[node], finite ? count : A(0));
        args.ema_count[node] = mean;
        averaged[warp] = double(mean);
      }
    } else if (lane == 0) {
      averaged[warp] = 0;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      double total = 0;
      for (int i = 0; i < kMovingAverageChunk; ++i) total += averaged[i];
      args.chunk_total[chunk] = total;
    }
    __syncthreads();
  }
}

// Launched with one block, so that the order of the sum is fixed.
__global__ void __launch_bounds__(kThreads) least_count_kernel(LeastCountArgs args) {
  __shared__ double scratch[kThreads / 32];
  double total = 0;
  for (int64_t chunk = threadIdx.x; chunk < args.chunks; chunk += kThreads) total += args.chunk_total[chunk];
  total = block_reduce<Sum, kThreads>(total, scratch);
  if (threadIdx.x == 0) *args.least = args.share * (total / double(args.nodes));
}

}  // namespace somvae
