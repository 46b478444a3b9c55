// CUDA backward pass of the search: gradients of the winners' distances.
#pragma once
#include <cmath>
#include <cstdint>

#include "bmu/bmu.h"
#include "cuda/launch.cuh"
#include "index_range.h"

namespace somvae {

// One thread per element of grad_z.
template <class T>
__global__ void bmu_backward_z_kernel(BmuBackwardArgs<T> args) {
  for (int64_t i = global_thread(); i < args.rows * args.dim; i += total_threads()) {
    const int64_t row = i / args.dim, d = i % args.dim;
    double sum = 0;
    for (int64_t pair = row * args.k; pair < (row + 1) * args.k; ++pair) {
      const int64_t code = args.index[pair];
      const double feature =
          in_range(code, args.codes) ? double(load(args.codebook[code * args.dim + d])) : double(NAN);
      sum += 2 * double(args.grad[pair]) * (double(load(args.z[i])) - feature);
    }
    args.grad_z[i] = store<T>(sum);
  }
}

// One thread per element of grad_codebook, over the pairs of its code in ascending order.
template <class T>
__global__ void bmu_backward_codebook_kernel(BmuBackwardArgs<T> args) {
  for (int64_t i = global_thread(); i < args.codes * args.dim; i += total_threads()) {
    const int64_t code = i / args.dim, d = i % args.dim;
    const double feature = load(args.codebook[i]);
    double sum = 0;
    for (int64_t p = args.offsets[code]; p < args.offsets[code + 1]; ++p) {
      const int64_t pair = args.order[p];
      sum += 2 * double(args.grad[pair]) * (feature - double(load(args.z[pair / args.k * args.dim + d])));
    }
    args.grad_codebook[i] = store<T>(sum);
  }
}

}  // namespace somvae
