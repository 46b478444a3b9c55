// CUDA gather of winner and neighbors: one thread per element of the result.
#pragma once
#include "cuda/launch.cuh"
#include "neighborhood/som_gather.h"
#include "neighborhood/winners.h"

namespace somvae {

template <class T>
__global__ void som_gather_kernel(SomGatherArgs<T> args) {
  const int64_t elements = args.rows * (1 + args.slots) * args.dim;
  for (int64_t i = global_thread(); i < elements; i += total_threads()) {
    const int64_t d = i % args.dim, slot = i / args.dim % (1 + args.slots), row = i / args.dim / (1 + args.slots);
    const int64_t winner = args.index[row];
    if (!in_range(winner, args.nodes)) {
      args.out[i] = store<T>(NAN);
      continue;
    }
    const int64_t node = node_in_slot(args.neighbors, winner, args.slots, args.nodes, slot);
    args.out[i] = node >= 0 ? args.codebook[node * args.dim + d] : store<T>(0.0);
  }
}

// One thread per element of grad_codebook. It sums over the node's own rows, then over those of its neighbors.
template <class T>
__global__ void som_gather_backward_kernel(SomGatherBackwardArgs<T> args) {
  for (int64_t i = global_thread(); i < args.nodes * args.dim; i += total_threads()) {
    const int64_t node = i / args.dim, d = i % args.dim;
    double sum = 0;
    for (int64_t slot = 0; slot <= args.slots; ++slot) {
      const int64_t winner = node_in_slot(args.neighbors, node, args.slots, args.nodes, slot);
      if (winner < 0) continue;
      const int64_t slot_of_this = slot == 0 ? 0 : slot_of_node(args.neighbors, winner, args.slots, node);
      for (int64_t r = args.offsets[winner]; r < args.offsets[winner + 1]; ++r) {
        sum += double(load(args.grad[(args.order[r] * (1 + args.slots) + slot_of_this) * args.dim + d]));
      }
    }
    args.grad_codebook[i] = store<T>(sum);
  }
}

}  // namespace somvae
