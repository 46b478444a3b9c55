// New codes from the sums of the rows that each node won, weighted by a neighborhood. Launchers for CPU and CUDA;
// no torch here.
//
// Every step is a weighted sum of rows, out[m, j] = sum over l of weight[m, l] * value[l, j]: one multiply-add per l in
// ascending order, in double, however the work is divided among threads. A row of weight exactly zero is skipped, even
// if it holds NaN or infinities. It is not read at all if its weight is zero for every target of a group.
#pragma once
#include <cstdint>

#include "device.h"
#include "dtypes.h"

namespace somvae {

// Turns `num`, the weighted sum of a feature of a node, and `den`, that of its counts, into the new feature.
template <class B>
struct SomUpdateFinish {
  const B* codebook;  // [nodes, dim]; null: out is num itself
  const double* den;  // [nodes, den_width], the weighted sums of the counts
  B* out;             // [nodes, dim]
  int64_t dim;
  int64_t den_width;  // 1, or dim if each feature has its own count
  bool by_rate;       // true: code + rate (num - den code); false: num / den if suffices(den), else the old code
  double rate;
  const double* threshold = nullptr;  // points to the value that den must exceed; null: none

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

// A full matrix of weights: target m has the weights weights[m].
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

// On the CPU, a panel has at most this many features (three of the widest vectors), and an item of work at most this
// many panels.
constexpr int64_t kSomUpdateFeatures = 24;
constexpr int64_t kSomUpdatePanels = 4;

// An item of work has item_targets targets and kSomUpdatePanels panels. Items with the same targets are consecutive.
template <class T, class B>
void som_update_cpu(const SomUpdateArgs<T, B>& args, int64_t item_targets, int64_t first_item, int64_t last_item);
// Item i covers item_features features, at most kSomUpdateFeatures, from feature i * item_features on.
template <class T, class B>
void som_update_axes_cpu(const SomUpdateAxesArgs<T, B>& args, int64_t item_features, int64_t first_item,
                         int64_t last_item);

template <class T, class B>
void som_update_cuda(const SomUpdateArgs<T, B>& args, void* stream);
// Updates features [first_feature, first_feature + count) in two passes; partial [phases, rows, columns, count] is
// scratch.
template <class T, class B>
void som_update_axes_cuda(const SomUpdateAxesArgs<T, B>& args, double* partial, int64_t first_feature, int64_t count,
                          void* stream);

}  // namespace somvae
