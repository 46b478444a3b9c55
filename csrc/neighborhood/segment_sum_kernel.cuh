// CUDA segment sums: one thread per element of the result, rows in ascending order, no atomics.
#pragma once
#include "cuda/launch.cuh"
#include "index_range.h"
#include "neighborhood/segment_sum.h"

namespace somvae {

template <class T>
__global__ void segment_sum_kernel(SegmentSumArgs<T> args) {
  for (int64_t i = global_thread(); i < args.segments * args.dim; i += total_threads()) {
    const int64_t segment = i / args.dim, d = i % args.dim;
    double sum = 0;
    for (int64_t r = args.offsets[segment]; r < args.offsets[segment + 1]; ++r) {
      sum += double(load(args.x[args.order[r] * args.dim + d]));
    }
    args.sum[i] = store<Compute<T>>(sum);
  }
}

template <class T>
__global__ void segment_sum_backward_kernel(SegmentSumBackwardArgs<T> args) {
  for (int64_t i = global_thread(); i < args.rows * args.dim; i += total_threads()) {
    const int64_t segment = args.index[i / args.dim], d = i % args.dim;
    const bool valid = in_range(segment, args.segments);
    args.grad_x[i] = store<T>(valid ? double(args.grad[segment * args.dim + d]) : 0.0);
  }
}

}  // namespace somvae
