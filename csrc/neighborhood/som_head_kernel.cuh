// CUDA losses and codes of winners: one warp per row, its lanes over the features.
#pragma once
#include "cuda/launch.cuh"
#include "cuda/reduce.cuh"
#include "neighborhood/som_head.h"
#include "neighborhood/winners.h"

namespace somvae {

template <class T>
__global__ void som_head_kernel(SomHeadArgs<T> args) {
  using C = Compute<T>;
  const int lane = threadIdx.x % 32;
  // All lanes of a warp have the same row, so the warp does not diverge.
  for (int64_t row = global_warp(); row < args.rows; row += total_warps()) {
    const int64_t winner = args.index[row];
    const bool valid = in_range(winner, args.nodes);
    if (args.quantized != nullptr) {
      for (int64_t d = lane; d < args.dim; d += 32) {
        args.quantized[row * args.dim + d] = valid ? args.codebook[winner * args.dim + d] : store<T>(NAN);
      }
    }
    C commitment = NAN, som = NAN;
    if (valid) {
      commitment = som = 0;
      for (int64_t slot = 0; slot <= args.slots; ++slot) {
        const int64_t node = node_in_slot(args.neighbors, winner, args.slots, args.nodes, slot);
        if (node < 0 && args.mask_border) continue;
        C sum = 0;
        for (int64_t d = lane; d < args.dim; d += 32) {
          const C code = node >= 0 ? C(load(args.codebook[node * args.dim + d])) : C(0);
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
__global__ void som_head_backward_z_kernel(SomHeadBackwardArgs<T> args) {
  const T* grad_copied = args.grad_copied();
  for (int64_t i = global_thread(); i < args.rows * args.dim; i += total_threads()) {
    double sum = 0;
    if (args.grad_commitment != nullptr) {
      const int64_t row = i / args.dim, d = i % args.dim, winner = args.index[row];
      const double code =
          in_range(winner, args.nodes) ? double(load(args.codebook[winner * args.dim + d])) : double(NAN);
      sum = 2 * double(args.grad_commitment[row]) * (double(load(args.z[i])) - code);
    }
    if (grad_copied != nullptr) sum += double(load(grad_copied[i]));
    args.grad_z[i] = store<T>(sum);
  }
}

SOMVAE_HOST_DEVICE inline int64_t warps_per_code(int64_t dim) { return (dim + 31) / 32; }

// One warp per 32 features of a node. Its lanes first check, one slot each, whether there are any rows: on a large map,
// few nodes have rows in a batch. Then it sums over the node's own rows and over those of its neighbors. Four blocks
// fill the smallest multiprocessor; without the launch bound the compiler takes 70 registers.
template <class T>
__global__ void __launch_bounds__(kThreads, 4) som_head_backward_codebook_kernel(SomHeadBackwardArgs<T> args) {
  const int lane = threadIdx.x % 32;
  const T* grad_gathered = args.grad_gathered();
  const int64_t slots = args.moving_slots(), parts = warps_per_code(args.dim);
  for (int64_t warp = global_warp(); warp < args.nodes * parts; warp += total_warps()) {
    const int64_t node = warp / parts, d = warp % parts * 32 + lane;
    bool has_rows = false;
    for (int64_t slot = lane; slot <= slots; slot += 32) {
      const int64_t winner = node_in_slot(args.neighbors, node, args.slots, args.nodes, slot);
      has_rows |= winner >= 0 && args.offsets[winner + 1] > args.offsets[winner];
    }
    has_rows = __any_sync(kFullWarp, has_rows);
    if (d >= args.dim) continue;
    double sum = 0;
    if (has_rows) {
      const double code = load(args.codebook[node * args.dim + d]);
      for (int64_t slot = 0; slot <= slots; ++slot) {
        const int64_t winner = node_in_slot(args.neighbors, node, args.slots, args.nodes, slot);
        if (winner < 0) continue;
        for (int64_t r = args.offsets[winner]; r < args.offsets[winner + 1]; ++r) {
          const int64_t row = args.order[r], at = row * args.dim + d;
          if (args.pulls()) sum += args.pull(row, slot) * (code - double(load(args.z[at])));
          if (slot == 0 && grad_gathered != nullptr) sum += double(load(grad_gathered[at]));
        }
      }
    }
    args.grad_codebook[node * args.dim + d] = store<T>(sum);
  }
}

}  // namespace somvae
