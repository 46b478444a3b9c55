// CUDA Adam on rows: one block per piece of a touched row, one pass over parameter and both moments.
#pragma once
#include "cuda/launch.cuh"
#include "index_range.h"
#include "optim/adam_rows.h"
#include "optim/adam_step.h"

namespace somvae {

__device__ inline float square_root(float x) { return sqrtf(x); }
__device__ inline double square_root(double x) { return sqrt(x); }

template <class T>
__global__ void adam_rows_kernel(AdamRowsArgs<T> args, int64_t pieces) {
  using C = Compute<T>;
  __shared__ AdamStep<C> shared_step;
  if (threadIdx.x == 0) shared_step = adam_step(args);
  __syncthreads();
  const AdamStep<C> step = shared_step;
  for (int64_t i = blockIdx.x; i < args.groups * pieces; i += gridDim.x) {
    const int64_t begin = args.offsets[i / pieces], end = args.offsets[i / pieces + 1];
    if (begin == end) continue;  // the same for the whole block
    const int64_t row = args.index[args.order[begin]];
    if (!in_range(row, args.rows)) continue;
    const int64_t first = i % pieces * kAdamPiece;
    const int64_t last = first + kAdamPiece < args.width ? first + kAdamPiece : args.width;
    for (int64_t j = first + threadIdx.x; j < last; j += kThreads) {
      C gradient = load(args.grad[args.order[begin] * args.width + j]);
      for (int64_t n = begin + 1; n < end; ++n) gradient += load(args.grad[args.order[n] * args.width + j]);
      const int64_t at = row * args.width + j;
      C mean = args.exp_avg[at], square = args.exp_avg_sq[at];
      mean += step.one_minus_beta1 * (gradient - mean);
      square = step.beta2 * square + step.one_minus_beta2 * gradient * gradient;
      args.exp_avg[at] = mean;
      args.exp_avg_sq[at] = square;
      const C change = step.rate * mean / (square_root(square) * step.correction + step.eps);
      args.param[at] = store<T>(C(load(args.param[at])) - change);
    }
  }
}

}  // namespace somvae
