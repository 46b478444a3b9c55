// CPU gather of winner and neighbors. Compiled once per instruction level by som_gather_cpu.cpp.

#include "cpu/feature_block.h"

template <class T>
void som_gather(const SomGatherArgs<T>& args, int64_t first_row, int64_t last_row) {
  for (int64_t row = first_row; row < last_row; ++row) {
    const int64_t winner = args.index[row];
    for (int64_t slot = 0; slot <= args.slots; ++slot) {
      T* out = args.out + (row * (1 + args.slots) + slot) * args.dim;
      const bool valid = in_range(winner, args.nodes);
      const int64_t node = valid ? node_in_slot(args.neighbors, winner, args.slots, args.nodes, slot) : -1;
      if (node >= 0) {
        for (int64_t d = 0; d < args.dim; ++d) out[d] = args.codebook[node * args.dim + d];
      } else {
        for (int64_t d = 0; d < args.dim; ++d) out[d] = store<T>(valid ? 0.0 : NAN);
      }
    }
  }
}

template <class T>
void som_gather_backward(const SomGatherBackwardArgs<T>& args, int64_t first_node, int64_t last_node) {
  for (int64_t node = first_node; node < last_node; ++node) {
    for_each_feature_block(args.dim, [&](int64_t d, auto n) {
      FeatureSum sum;
      for (int64_t slot = 0; slot <= args.slots; ++slot) {
        // The relation is symmetric: the nodes that have this node as a neighbor are its neighbors.
        const int64_t winner = node_in_slot(args.neighbors, node, args.slots, args.nodes, slot);
        if (winner < 0) continue;
        const int64_t slot_of_this = slot == 0 ? 0 : slot_of_node(args.neighbors, winner, args.slots, node);
        for (int64_t i = args.offsets[winner]; i < args.offsets[winner + 1]; ++i) {
          sum.add(args.grad + (args.order[i] * (1 + args.slots) + slot_of_this) * args.dim + d, n);
        }
      }
      sum.write(args.grad_codebook + node * args.dim + d, n);
    });
  }
}
