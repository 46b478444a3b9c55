// New codes from the sums of the rows that each node won, weighted by a neighbourhood. Launchers for both twins; no
// torch here.
//
// Everything is a weighted sum of rows, out[m, j] = sum over l of weight[m, l] * value[l, j]: one multiply-add per l in
// ascending order, in double, whatever the threads and however the work is cut. A weight of exactly zero leaves its row
// out, NaN and infinities too; where all of a few targets do so, the row is not even looked at.
#pragma once
#include <cstdint>

#include "device.h"
#include "dtypes.h"

namespace somvae {

// What becomes of the weighted sum `num` of feature d of node m, given that of the counts.
template <class B>
struct SomUpdateFinish {
  const B* codebook;  // [nodes, dim]; null: out is num itself
  const double* den;  // [nodes, den_width], the weighted sums of the counts
  B* out;             // [nodes, dim]
  int64_t dim;
  int64_t den_width;  // 1, or dim where each feature has a count of its own
  bool by_rate;       // code + rate (num - den code); otherwise num / den, or the code as it was if not reached(den)
  double rate;
  const double* more_than = nullptr;  // what den has to exceed, by address; null: nothing

  SOMVAE_HOST_DEVICE double den_of(int64_t node, int64_t d) const {
    return den[node * den_width + (den_width == 1 ? 0 : d)];
  }
  SOMVAE_HOST_DEVICE bool reached(double node_den) const {
    constexpr double smallest_normal = 0x1p-1022;  // below, num and den have lost digits that the quotient would need
    return node_den >= smallest_normal && (more_than == nullptr || node_den > *more_than);
  }
  SOMVAE_HOST_DEVICE B operator()(double num, double node_den, B code) const {
    const double old = double(load(code));
    if (by_rate) return store<B>(old + rate * (num - node_den * old));
    return reached(node_den) ? store<B>(num / node_den) : code;
  }
};

// A neighbourhood in full: target m's weights are weights[m].
template <class T, class B>
struct SomUpdateArgs {
  const T* values;        // [sources, dim]
  const double* weights;  // [targets, sources]
  SomUpdateFinish<B> finish;
  int64_t targets, sources, dim;
};

// One that separates along the axes of a grid. Its rows come in `phases` kinds, row r being of phase r % phases: 1, or
// 2 on hexagons.
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

// The CPU works on panels of at most so many features: three of its widest vectors.
constexpr int64_t kSomUpdateFeatures = 24;
constexpr int64_t kSomUpdatePanels = 4;

// The work is cut into items: item_targets targets and kSomUpdatePanels panels, the panels of some targets first.
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
