// CPU losses and codes of winners. Compiled once per instruction level by som_head_cpu.cpp.

#include "cpu/feature_block.h"
#include "cpu/squared_distance.h"

template <class T>
void som_head(const SomHeadArgs<T>& args, int64_t first_row, int64_t last_row) {
  for (int64_t row = first_row; row < last_row; ++row) {
    const T* z = args.z + row * args.dim;
    T* quantized = args.quantized == nullptr ? nullptr : args.quantized + row * args.dim;
    const int64_t winner = args.index[row];
    if (!in_range(winner, args.nodes)) {
      args.commitment[row] = args.som[row] = NAN;
      for (int64_t d = 0; quantized != nullptr && d < args.dim; ++d) quantized[d] = store<T>(NAN);
      continue;
    }
    const T* code = args.codebook + winner * args.dim;
    if (quantized != nullptr) memcpy(quantized, code, args.dim * sizeof(T));
    const Compute<T> commitment = squared_distance(z, code, args.dim);
    Compute<T> som = commitment;
    for (int64_t slot = 1; slot <= args.slots; ++slot) {
      const int64_t node = node_in_slot(args.neighbors, winner, args.slots, args.nodes, slot);
      if (node >= 0) {
        som += squared_distance(z, args.codebook + node * args.dim, args.dim);
      } else if (!args.mask_border) {
        som += squared_distance(z, ZeroCode{}, args.dim);
      }
    }
    args.commitment[row] = commitment;
    args.som[row] = som;
  }
}

template <class T>
void som_head_backward_z(const SomHeadBackwardArgs<T>& args, int64_t first_row, int64_t last_row) {
  const T* grad_copied = args.grad_copied();
  for (int64_t row = first_row; row < last_row; ++row) {
    const T* z = args.z + row * args.dim;
    const int64_t winner = args.index[row];
    const bool valid = in_range(winner, args.nodes);
    const T* code = args.codebook + (valid ? winner : 0) * args.dim;
    for_each_feature_block(args.dim, [&](int64_t d, auto n) {
      FeatureSum sum;
      if (args.grad_commitment != nullptr) {
        sum.add_difference(valid ? 2 * double(args.grad_commitment[row]) : NAN, z + d, code + d, n);
      }
      if (grad_copied != nullptr) sum.add(grad_copied + row * args.dim + d, n);
      sum.write(args.grad_z + row * args.dim + d, n);
    });
  }
}

template <class T>
void som_head_backward_codebook(const SomHeadBackwardArgs<T>& args, const int64_t* nodes, int64_t first, int64_t last) {
  const T* grad_gathered = args.grad_gathered();
  for (int64_t i = first; i < last; ++i) {
    const int64_t node = nodes[i];
    const T* code = args.codebook + node * args.dim;
    for_each_feature_block(args.dim, [&](int64_t d, auto n) {
      FeatureSum sum;
      for (int64_t slot = 0; slot <= args.moving_slots(); ++slot) {
        // The relation is symmetric: the nodes that have this node as a neighbor are its neighbors.
        const int64_t winner = node_in_slot(args.neighbors, node, args.slots, args.nodes, slot);
        if (winner < 0) continue;
        for (int64_t r = args.offsets[winner]; r < args.offsets[winner + 1]; ++r) {
          const int64_t row = args.order[r], at = row * args.dim + d;
          if (args.pulls()) sum.add_difference(args.pull(row, slot), code + d, args.z + at, n);
          if (slot == 0 && grad_gathered != nullptr) sum.add(grad_gathered + at, n);
        }
      }
      sum.write(args.grad_codebook + node * args.dim + d, n);
    });
  }
}
