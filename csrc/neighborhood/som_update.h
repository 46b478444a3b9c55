// New codes from the sums of the rows that each node won, weighted by a neighbourhood. Launchers for CPU and CUDA;
// no torch here.
//
// Every step is a weighted sum of rows, out[m, j] = sum over l of weight[m, l] * value[l, j]: one multiply-add per l in
// ascending order, in double, whatever the threads and the division of the work. A row of weight exactly zero is
// skipped, even if it holds NaN or infinities. It is not read at all if its weight is zero for all of a group of
// targets.
#pragma once
#include <cstdint>

#include "device.h"
#include "dtypes.h"

namespace somvae {

// Turns the weighted sum `num` of a feature of a node, and the weighted sum of its counts, into the new feature.
template <class B>
struct SomUpdateFinish {
  const B* codebook;  // [nodes, dim]; null: out is num itself
  const double* den;  // [nodes, den_width], the weighted sums of the counts
  B* out;             // [nodes, dim]
  int64_t dim;
  int64_t den_width;  // 1, or dim where each feature has a count of its own
  bool by_rate;       // code + rate (num - den code); otherwise num / den, or the old code unless suffices(den)
  double rate;
  const double* threshold = nullptr;  // that den must exceed, by address; null: none

  SOMVAE_HOST_DEVICE double den_of(int64_t node, int64_t d) const {
    return den[node * den_width + (den_width == 1 ? 0 : d)];
  }
  SOMVAE_HOST_DEVICE bool suffices(double node_den) const {
    constexpr double smallest_normal = 0x1p-1022;  // below it, num and den have lost digits that the quotient needs
    return node_den >= smallest_normal && (threshold == nullptr || node_den > *threshold);
  }
  SOMVAE_HOST_DEVICE B operator()(double num, double node_den, B code) const {
    const double old = double(load(code));
    if (by_rate) return store<B>(old + rate * (num - node_den * old));
    return suffices(node_den) ? store<B>(num / node_den) : code;
  }
};

// A full matrix of weights: those of target m are weights[m].
template <class T, class B>
struct SomUpdateArgs {
  const T* values;        // [sources, dim]
  const double* weights;  // [targets, sources]
  SomUpdateFinish<B> finish;
  int64_t targets, sources, dim;
};

// Weights that separate along the axes of a grid. Row r is of phase r % phases: there is 1 phase, or 2 on hexagonal
// grids.
//   num[r, c] = sum over source rows s of row_weights[r, s] *
//               sum over b of column_weights[s % phases, r % phases, c, b] * values[s, b]
struct GridAxes {
  const double* row_weights;     // [rows, rows]
  const double* column_weights;  // [phases, phases, columns, columns]
  int64_t rows, columns, phases;

  SOMVAE_HOST_DEVICE int64_t rows_of_phase(int64_t phase) const { return (rows - phase + phases - 1) / phases; }
};

template <class T, class B>
struct SomUpdateAxesArgs {
  const T* values;  // [rows, columns, dim]
  GridAxes axes;
  SomUpdateFinish<B> finish;
  int64_t dim;
};

// The CPU processes panels of at most so many features: three of its widest vectors.
constexpr int64_t kSomUpdateFeatures = 24;
constexpr int64_t kSomUpdatePanels = 4;

// An item of work has item_targets targets and kSomUpdatePanels panels. Items with the same targets come one after
// another.
template <class T, class B>
void som_update_cpu(const SomUpdateArgs<T, B>& args, int64_t item_targets, int64_t first_item, int64_t last_item);
// Item i: features i * item_features and so on, at most kSomUpdateFeatures of them.
template <class T, class B>
void som_update_axes_cpu(const SomUpdateAxesArgs<T, B>& args, int64_t item_features, int64_t first_item,
                         int64_t last_item);

template <class T, class B>
void som_update_cuda(const SomUpdateArgs<T, B>& args, void* stream);
// Features [first, first + count), by way of partial [phases, rows, columns, count].
template <class T, class B>
void som_update_axes_cuda(const SomUpdateAxesArgs<T, B>& args, double* partial, int64_t first_feature, int64_t count,
                          void* stream);

}  // namespace somvae
