// CUDA commitment and SOM losses: one warp per row, its lanes over the features.
#pragma once
#include "cuda/launch.cuh"
#include "cuda/reduce.cuh"
#include "neighborhood/som_losses.h"
#include "neighborhood/winners.h"

namespace somvae {

constexpr int kRowsPerBlock = kThreads / 32;

template <class T>
__global__ void som_losses_kernel(SomLossesArgs<T> args) {
  using C = Compute<T>;
  const int lane = threadIdx.x % 32;
  // A warp stays together: all of its lanes have the same row.
  for (int64_t row = int64_t(blockIdx.x) * kRowsPerBlock + threadIdx.x / 32; row < args.rows;
       row += int64_t(gridDim.x) * kRowsPerBlock) {
    const int64_t winner = args.index[row];
    C commitment = NAN, som = NAN;
    if (in_range(winner, args.units)) {
      commitment = som = 0;
      for (int64_t slot = 0; slot <= args.slots; ++slot) {
        const int64_t unit = unit_in_slot(args.neighbors, winner, args.slots, args.units, slot);
        if (unit < 0 && args.mask_border) continue;
        C sum = 0;
        for (int64_t d = lane; d < args.dim; d += 32) {
          const C code = unit >= 0 ? C(load(args.codebook[unit * args.dim + d])) : C(0);
          const C difference = C(load(args.z[row * args.dim + d])) - code;
          sum += difference * difference;
        }
        sum = warp_reduce<Sum>(sum);
        if (slot == 0) commitment = sum;
        som += sum;
      }
    }
    if (lane == 0) {
      args.commitment[row] = commitment;
      args.som[row] = som;
    }
  }
}

// One thread per element of grad_z.
template <class T>
__global__ void som_losses_backward_z_kernel(SomLossesBackwardArgs<T> args) {
  for (int64_t i = global_thread(); i < args.rows * args.dim; i += total_threads()) {
    const int64_t row = i / args.dim, d = i % args.dim, winner = args.index[row];
    const double code = in_range(winner, args.units) ? double(load(args.codebook[winner * args.dim + d])) : double(NAN);
    args.grad_z[i] = store<T>(2 * double(args.grad_commitment[row]) * (double(load(args.z[i])) - code));
  }
}

// One thread per element of grad_codebook: over the unit's own rows, then its neighbours', which see it in some slot.
template <class T>
__global__ void som_losses_backward_codebook_kernel(SomLossesBackwardArgs<T> args) {
  for (int64_t i = global_thread(); i < args.units * args.dim; i += total_threads()) {
    const int64_t unit = i / args.dim, d = i % args.dim;
    const double code = load(args.codebook[i]);
    double sum = 0;
    for (int64_t slot = 0; slot <= args.slots; ++slot) {
      const int64_t winner = unit_in_slot(args.neighbors, unit, args.slots, args.units, slot);
      if (winner < 0) continue;
      for (int64_t r = args.offsets[winner]; r < args.offsets[winner + 1]; ++r) {
        const int64_t row = args.order[r];
        const double commitment = slot == 0 ? double(args.grad_commitment[row]) : 0.0;
        sum += 2 * (commitment + double(args.grad_som[row])) * (code - double(load(args.z[row * args.dim + d])));
      }
    }
    args.grad_codebook[i] = store<T>(sum);
  }
}

}  // namespace somvae
