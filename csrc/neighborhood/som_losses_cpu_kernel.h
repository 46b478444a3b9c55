// CPU commitment and SOM losses. Compiled once per instruction level by som_losses_cpu.cpp.

#include "cpu/feature_block.h"
#include "cpu/squared_distance.h"

template <class T>
void som_losses(const SomLossesArgs<T>& args, int64_t first_row, int64_t last_row) {
  for (int64_t row = first_row; row < last_row; ++row) {
    const T* z = args.z + row * args.dim;
    const int64_t winner = args.index[row];
    if (!in_range(winner, args.units)) {
      args.commitment[row] = args.som[row] = NAN;
      continue;
    }
    const Compute<T> commitment = squared_distance(z, args.codebook + winner * args.dim, args.dim);
    Compute<T> som = commitment;
    for (int64_t slot = 1; slot <= args.slots; ++slot) {
      const int64_t unit = unit_in_slot(args.neighbors, winner, args.slots, args.units, slot);
      if (unit >= 0) {
        som += squared_distance(z, args.codebook + unit * args.dim, args.dim);
      } else if (!args.mask_border) {
        som += squared_distance(z, ZeroCode{}, args.dim);
      }
    }
    args.commitment[row] = commitment;
    args.som[row] = som;
  }
}

template <class T>
void som_losses_backward_z(const SomLossesBackwardArgs<T>& args, int64_t first_row, int64_t last_row) {
  for (int64_t row = first_row; row < last_row; ++row) {
    const T* z = args.z + row * args.dim;
    const int64_t winner = args.index[row];
    const bool valid = in_range(winner, args.units);
    const T* code = args.codebook + (valid ? winner : 0) * args.dim;
    const double weight = valid ? 2 * double(args.grad_commitment[row]) : NAN;
    for_each_feature_block(args.dim, [&](int64_t d, auto n) {
      FeatureSum sum;
      sum.add_difference(weight, z + d, code + d, n);
      sum.write(args.grad_z + row * args.dim + d, n);
    });
  }
}

template <class T>
void som_losses_backward_codebook(const SomLossesBackwardArgs<T>& args, int64_t first_unit, int64_t last_unit) {
  for (int64_t unit = first_unit; unit < last_unit; ++unit) {
    const T* code = args.codebook + unit * args.dim;
    for_each_feature_block(args.dim, [&](int64_t d, auto n) {
      FeatureSum sum;
      for (int64_t slot = 0; slot <= args.slots; ++slot) {
        // The relation is symmetric: those who see this unit as a neighbour are its neighbours.
        const int64_t winner = unit_in_slot(args.neighbors, unit, args.slots, args.units, slot);
        if (winner < 0) continue;
        for (int64_t i = args.offsets[winner]; i < args.offsets[winner + 1]; ++i) {
          const int64_t row = args.order[i];
          const double commitment = slot == 0 ? double(args.grad_commitment[row]) : 0.0;
          sum.add_difference(2 * (commitment + double(args.grad_som[row])), code + d, args.z + row * args.dim + d, n);
        }
      }
      sum.write(args.grad_codebook + unit * args.dim + d, n);
    });
  }
}
