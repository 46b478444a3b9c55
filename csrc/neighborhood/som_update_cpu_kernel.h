// CPU weighted sums of rows, in double: a few targets x a few vectors of features in registers, so that each value is
// loaded once for all of these targets. Compiled once per instruction level by som_update_cpu.cpp.

#include "cpu/vector.h"
//
#include "cpu/scratch.h"

using Doubles = Simd<double>::Vector;
constexpr int kDoubles = Simd<double>::lanes;
constexpr int kSumVectors = 3;
constexpr int kSumTargets = SIMD_BYTES == 64 ? 8 : 4;  // x 3 sums, 3 vectors of values and a weight: 32 or 16 registers

// Some targets' weights. Where there are fewer targets than registers for them, the last one fills up.
struct TargetWeights {
  const double* row[kSumTargets];
  int64_t count;        // of targets
  int64_t first, last;  // outside of this range all of their weights are zero
};

// Targets weights, weights + stride and so on, cut into groups; there are (targets + kSumTargets - 1) / kSumTargets.
inline void group_targets(const double* weights, int64_t stride, int64_t targets, int64_t sources,
                          TargetWeights* groups) {
  for (int64_t begin = 0; begin < targets; begin += kSumTargets) {
    TargetWeights& group = *groups++;
    group.count = std::min<int64_t>(kSumTargets, targets - begin);
    group.first = sources;
    group.last = 0;
    for (int t = 0; t < kSumTargets; ++t) {
      const double* const row = weights + (begin + std::min<int64_t>(t, group.count - 1)) * stride;
      group.row[t] = row;
      int64_t first = 0, last = sources;
      while (first < group.first && row[first] == 0) ++first;
      while (last > group.last && row[last - 1] == 0) --last;
      group.first = first;
      group.last = last;
    }
  }
}

inline int64_t target_groups(int64_t targets) { return (targets + kSumTargets - 1) / kSumTargets; }

inline int64_t whole_vectors(int64_t features) { return (features + kDoubles - 1) / kDoubles * kDoubles; }

// Rows of n features in double, `pitch` apart, which is whole_vectors(n): what is left of the last one is zeros.
template <class T>
void pack_values(const T* from, int64_t stride, int64_t rows, int64_t n, int64_t pitch, double* to) {
  for (int64_t row = 0; row < rows; ++row, from += stride, to += pitch) {
    int64_t d = 0;
    for (; d + kDoubles <= n; d += kDoubles) {
      for (int i = 0; i < kDoubles; ++i) to[d + i] = double(from[d + i]);
    }
    for (int i = 0; d + i < pitch; ++i) to[d + i] = d + i < n ? double(from[d + i]) : 0;
  }
}

// Whether none of them is NaN or infinite; whole vectors of them.
inline bool all_finite(const double* values, int64_t count) {
  Doubles sum = {};
  for (int64_t i = 0; i < count; i += kDoubles) {
    Doubles v;
    __builtin_memcpy(&v, values + i, sizeof v);
    sum += v - v;
  }
  for (int i = 0; i < kDoubles; ++i) {
    if (sum[i] != 0) return false;
  }
  return true;
}

// out[t][...] = sum over l in [first, last) of weight[t][l] * values[l][...], or += where `add`, of a few vectors.
// Where values may not be finite, `guarded` leaves those out whose weight is zero.
template <int vectors, bool guarded>
inline __attribute__((always_inline)) void add_products(const TargetWeights& targets, int64_t first, int64_t last,
                                                        const double* values, int64_t pitch, bool add, double* out,
                                                        int64_t out_pitch) {
  Doubles sum[kSumTargets][vectors];
  const double* weight[kSumTargets];
#pragma GCC unroll 8
  for (int t = 0; t < kSumTargets; ++t) {
    weight[t] = targets.row[t] + first;
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      sum[t][v] = Doubles{};
      if (add && t < targets.count) __builtin_memcpy(&sum[t][v], out + t * out_pitch + v * kDoubles, sizeof(Doubles));
    }
  }
  for (int64_t l = 0; l < last - first; ++l, values += pitch) {
    Doubles value[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) __builtin_memcpy(&value[v], values + v * kDoubles, sizeof(Doubles));
#pragma GCC unroll 8
    for (int t = 0; t < kSumTargets; ++t) {
      const double w = weight[t][l];
      if (guarded && w == 0) continue;
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) sum[t][v] += value[v] * w;
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < kSumTargets; ++t) {
    if (t >= targets.count) break;
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) __builtin_memcpy(out + t * out_pitch + v * kDoubles, &sum[t][v], sizeof(Doubles));
  }
}

template <int vectors>
inline void add_products(const TargetWeights& targets, int64_t first, int64_t last, const double* values, int64_t pitch,
                         bool finite, bool add, double* out, int64_t out_pitch) {
  if (finite) {
    add_products<vectors, false>(targets, first, last, values, pitch, add, out, out_pitch);
  } else {
    add_products<vectors, true>(targets, first, last, values, pitch, add, out, out_pitch);
  }
}

// The same for all vectors of the values; `values` is the row of source `first`.
inline void weighted_sums(const TargetWeights& targets, int64_t first, int64_t last, const double* values,
                          int64_t pitch, bool finite, bool add, double* out, int64_t out_pitch) {
  for (int64_t d = 0; d < pitch;) {
    const int64_t vectors = std::min<int64_t>(kSumVectors, (pitch - d) / kDoubles);
    switch (vectors) {
      case 1:
        add_products<1>(targets, first, last, values + d, pitch, finite, add, out + d, out_pitch);
        break;
      case 2:
        add_products<2>(targets, first, last, values + d, pitch, finite, add, out + d, out_pitch);
        break;
      default:
        add_products<3>(targets, first, last, values + d, pitch, finite, add, out + d, out_pitch);
    }
    d += vectors * kDoubles;
  }
}

// The new values of n features of a node.
template <class B>
void finish_features(const SomUpdateFinish<B>& finish, int64_t node, int64_t feature, int64_t n, const double* num) {
  B* const out = finish.out + node * finish.dim + feature;
  if (finish.codebook == nullptr) {
    for (int64_t d = 0; d < n; ++d) out[d] = store<B>(num[d]);
    return;
  }
  const B* const code = finish.codebook + node * finish.dim + feature;
  if (finish.den_width == 1) {
    const double den = finish.den[node];
    for (int64_t d = 0; d < n; ++d) out[d] = finish(num[d], den, code[d]);
  } else {
    const double* const den = finish.den + node * finish.den_width + feature;
    for (int64_t d = 0; d < n; ++d) out[d] = finish(num[d], den[d], code[d]);
  }
}

template <class T, class B>
void som_update_axes(const SomUpdateAxesArgs<T, B>& args, int64_t item_features, int64_t first_item,
                     int64_t last_item) {
  const GridAxes& axes = args.axes;
  const int64_t rows = axes.rows, columns = axes.columns, phases = axes.phases, dim = args.dim;
  // [source phase][target phase][group] and [target phase][group]
  const int64_t column_groups = target_groups(columns), row_groups = target_groups(axes.rows_of_phase(0));
  const Scratch<TargetWeights> column_targets(phases * phases * column_groups), row_targets(phases * row_groups);
  for (int64_t pair = 0; pair < phases * phases; ++pair) {
    group_targets(axes.column_weights + pair * columns * columns, columns, columns, columns,
                  column_targets.data + pair * column_groups);
  }
  for (int64_t phase = 0; phase < phases; ++phase) {
    group_targets(axes.row_weights + phase * rows, phases * rows, axes.rows_of_phase(phase), rows,
                  row_targets.data + phase * row_groups);
  }

  // partial[target phase][column][source row][feature]: the source rows of a column lie one after another, where the
  // second pass reads them. One vector more than a column's size keeps columns from competing for the same lines of the
  // caches.
  const int64_t most = whole_vectors(std::min(item_features, dim)), column_size = rows * most + kDoubles;
  const Scratch<double> values(columns * most), partial(phases * columns * column_size);
  double sums[kSumTargets * kSomUpdateFeatures];

  for (int64_t item = first_item; item < last_item; ++item) {
    const int64_t feature = item * item_features, n = std::min(item_features, dim - feature);
    const int64_t pitch = whole_vectors(n);
    for (int64_t row = 0; row < rows; ++row) {
      pack_values(args.values + row * columns * dim + feature, dim, columns, n, pitch, values.data);
      const bool finite = all_finite(values.data, columns * pitch);
      for (int64_t phase = 0; phase < phases; ++phase) {
        const TargetWeights* const groups = column_targets.data + (row % phases * phases + phase) * column_groups;
        double* out = partial.data + phase * columns * column_size + row * pitch;
        for (int64_t g = 0; g < column_groups; ++g, out += kSumTargets * column_size) {
          const int64_t first = groups[g].first;
          weighted_sums(groups[g], first, groups[g].last, values.data + first * pitch, pitch, finite, false, out,
                        column_size);
        }
      }
    }
    for (int64_t phase = 0; phase < phases; ++phase) {
      const int64_t groups = target_groups(axes.rows_of_phase(phase));
      for (int64_t column = 0; column < columns; ++column) {
        const double* const rows_of_column = partial.data + (phase * columns + column) * column_size;
        const bool finite = all_finite(rows_of_column, rows * pitch);
        for (int64_t g = 0; g < groups; ++g) {
          const TargetWeights& targets = row_targets.data[phase * row_groups + g];
          weighted_sums(targets, targets.first, targets.last, rows_of_column + targets.first * pitch, pitch, finite,
                        false, sums, pitch);
          for (int64_t t = 0; t < targets.count; ++t) {
            const int64_t row = phase + (g * kSumTargets + t) * phases;
            finish_features(args.finish, row * columns + column, feature, n, sums + t * pitch);
          }
        }
      }
    }
  }
}

template <class T, class B>
void som_update(const SomUpdateArgs<T, B>& args, int64_t item_targets, int64_t first_item, int64_t last_item) {
  constexpr int64_t depth = 128;  // sources at a time: a panel of them and a few targets' weights fit into L1
  constexpr int64_t panel_size = depth * kSomUpdateFeatures;
  constexpr int64_t most = kSomUpdatePanels * kSomUpdateFeatures;
  const int64_t feature_blocks = (args.dim + most - 1) / most;
  const Scratch<TargetWeights> groups(target_groups(item_targets));
  const Scratch<double> values(kSomUpdatePanels * panel_size), sums(item_targets * most);
  bool finite[kSomUpdatePanels];

  for (int64_t item = first_item; item < last_item; ++item) {
    const int64_t target = item / feature_blocks * item_targets, feature = item % feature_blocks * most;
    const int64_t targets = std::min(item_targets, args.targets - target), n = std::min(most, args.dim - feature);
    const int64_t panels = (n + kSomUpdateFeatures - 1) / kSomUpdateFeatures;
    const auto features_of = [&](int64_t panel) {
      return std::min(kSomUpdateFeatures, n - panel * kSomUpdateFeatures);
    };
    group_targets(args.weights + target * args.sources, args.sources, targets, args.sources, groups.data);
    int64_t begin = args.sources, end = 0;
    for (int64_t g = 0; g < target_groups(targets); ++g) {
      begin = std::min(begin, groups[g].first);
      end = std::max(end, groups[g].last);
    }
    memset(sums.data, 0, targets * most * sizeof(double));
    for (int64_t source = begin; source < end; source += depth) {
      const int64_t sources = std::min(depth, end - source);
      for (int64_t p = 0; p < panels; ++p) {
        double* const panel = values.data + p * panel_size;
        const int64_t pitch = whole_vectors(features_of(p));
        pack_values(args.values + source * args.dim + feature + p * kSomUpdateFeatures, args.dim, sources,
                    features_of(p), pitch, panel);
        finite[p] = all_finite(panel, sources * pitch);
      }
      for (int64_t g = 0; g < target_groups(targets); ++g) {
        const int64_t first = std::max(groups[g].first, source), last = std::min(groups[g].last, source + sources);
        if (first >= last) continue;
        for (int64_t p = 0; p < panels; ++p) {
          const int64_t pitch = whole_vectors(features_of(p));
          weighted_sums(groups[g], first, last, values.data + p * panel_size + (first - source) * pitch, pitch,
                        finite[p], true, sums.data + g * kSumTargets * most + p * kSomUpdateFeatures, most);
        }
      }
    }
    for (int64_t t = 0; t < targets; ++t) {
      finish_features(args.finish, target + t, feature, n, sums.data + t * most);
    }
  }
}
