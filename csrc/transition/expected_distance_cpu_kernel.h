// CPU expected distances. Compiled once per instruction level by expected_distance_cpu.cpp.

#include "cpu/vector.h"
//
#include "cpu/exponential.h"
#include "cpu/feature_block.h"
#include "cpu/panel_distances.h"
//
#include "transition/softmax_row_cpu.h"

static_assert(kLanes == kPanelCodes, "probabilities come in the panels' portions");

// Distances of one row to the codes of a panel, in memory.
template <int tile, class C>
inline __attribute__((always_inline)) void scores_of_row(const PanelScores<C, tile>& scores, int r, C (&out)[kLanes]) {
  static_assert(sizeof out == sizeof scores.value[r]);
  __builtin_memcpy(out, scores.value[r], sizeof out);
}

// All features of a tile of rows, in blocks of kDepth.
template <class C, int tile>
struct LoadedRows {
  int64_t dim;
  RowBlock<C, tile>* blocks;

  template <class T>
  LoadedRows(const T* z, int64_t row, int64_t dim) : dim(dim), blocks(new RowBlock<C, tile>[dim / kDepth + 1]) {
    for_each_depth(dim, [&](int64_t d, int64_t depth) {
      for (int r = 0; r < tile; ++r) blocks[d / kDepth].load_row(r, z + (row + r) * dim, d, depth);
    });
  }
  LoadedRows(const LoadedRows&) = delete;
  ~LoadedRows() { delete[] blocks; }

  inline __attribute__((always_inline)) PanelScores<C, tile> distances(const C* panel) const {
    PanelScores<C, tile> scores;
    for_each_depth(
        dim, [&](int64_t d, int64_t depth) { scores.accumulate(blocks[d / kDepth], panel + d * kPanelCodes, depth); });
    return scores;
  }
};

// sum_j p_nj d_nj for a tile of rows, panel after panel; a row's sum has the same order in a tile of any size.
template <int tile, class T>
void expect_tile(const ExpectedDistanceArgs<T>& args, const Compute<T>* packed,
                 const LoadedRows<Compute<T>, tile>& rows, int64_t row) {
  using C = Compute<T>;
  double sum[tile][kLanes] = {};
  for (int64_t panel = 0; panel < panel_count(args.units); ++panel) {
    const PanelScores<C, tile> distances = rows.distances(packed + panel * args.dim * kPanelCodes);
    const int64_t unit = panel * kPanelCodes;
    for (int r = 0; r < tile; ++r) {
      const int64_t prev = args.prev[row + r];
      if (!in_range(prev, args.units)) continue;
      C p[kLanes], distance[kLanes];
      probabilities(args.logits + prev * args.units, unit, args.units, args.log_normalizer[row + r], p);
      scores_of_row(distances, r, distance);
      for (int l = 0; l < kLanes; ++l) {  // the last panel's missing codes are NaN
        sum[r][l] += unit + l < args.units ? double(p[l]) * double(distance[l]) : 0.0;
      }
    }
  }
  for (int r = 0; r < tile; ++r) {
    double total = in_range(args.prev[row + r], args.units) ? 0 : NAN;
    for (const double part : sum[r]) total += part;
    args.expectation[row + r] = static_cast<C>(total);
  }
}

template <class T>
void expected_distance(const ExpectedDistanceArgs<T>& args, const Compute<T>* packed, int64_t first_row,
                       int64_t last_row) {
  for (int64_t row = first_row; row < last_row; ++row) {
    const int64_t prev = args.prev[row];
    args.log_normalizer[row] =
        in_range(prev, args.units) ? log_sum_exp(args.logits + prev * args.units, args.units) : NAN;
  }
  for_each_tile<Compute<T>>(first_row, last_row, [&]<int tile>(int64_t row) {
    expect_tile<tile>(args, packed, LoadedRows<Compute<T>, tile>(args.z, row, args.dim), row);
  });
}

template <class T>
void expected_distance_backward_logits(const ExpectedDistanceBackwardArgs<T>& args, const Compute<T>* packed,
                                       int64_t first, int64_t last) {
  using C = Compute<T>;
  for_each_gradient_row<T>(args, first, last, [&](const GradientRow& group, const T* logits, double* sum) {
    for (int64_t unit = 0; unit < args.units; ++unit) sum[unit] = 0;
    for (int64_t i = 0; i < group.count; ++i) {
      const int64_t row = group.member(i);
      const LoadedRows<C, 1> z(args.z, row, args.dim);
      for (int64_t unit = 0; unit < args.units; unit += kLanes) {
        const PanelScores<C, 1> distances = z.distances(packed + unit * args.dim);
        C p[kLanes], distance[kLanes];
        probabilities(logits, unit, args.units, args.log_normalizer[row], p);
        scores_of_row(distances, 0, distance);
        const int64_t lanes = args.units - unit < kLanes ? args.units - unit : kLanes;
        for (int64_t l = 0; l < lanes; ++l) {
          sum[unit + l] +=
              double(args.grad[row]) * double(p[l]) * (double(distance[l]) - double(args.expectation[row]));
        }
      }
    }
  });
}

template <class T>
void expected_distance_backward_z(const ExpectedDistanceBackwardArgs<T>& args, int64_t first_row, int64_t last_row) {
  Compute<T>* p = new Compute<T>[panel_count(args.units) * kPanelCodes];
  for (int64_t row = first_row; row < last_row; ++row) {
    const int64_t prev = args.prev[row];
    const double grad = in_range(prev, args.units) ? 2 * double(args.grad[row]) : NAN;
    for (int64_t unit = 0; unit < args.units; unit += kLanes) {
      Compute<T> some[kLanes] = {};
      if (in_range(prev, args.units)) {
        probabilities(args.logits + prev * args.units, unit, args.units, args.log_normalizer[row], some);
      }
      __builtin_memcpy(p + unit, some, sizeof some);
    }
    const T* z = args.z + row * args.dim;
    for_each_feature_block(args.dim, [&](int64_t d, auto n) {
      FeatureSum sum;
      for (int64_t unit = 0; unit < args.units; ++unit) {
        sum.add_difference(grad * double(p[unit]), z + d, args.codebook + unit * args.dim + d, n);
      }
      sum.write(args.grad_z + row * args.dim + d, n);
    });
  }
  delete[] p;
}

template <class T>
void expected_distance_backward_codebook(const ExpectedDistanceBackwardArgs<T>& args, int64_t first_unit,
                                         int64_t last_unit) {
  using C = Compute<T>;
  C* p = new C[(args.rows > 0 ? args.rows : 1) * kLanes];  // [rows][16]: of 16 units at a time
  for (int64_t unit0 = first_unit; unit0 < last_unit; unit0 += kLanes) {
    for (int64_t row = 0; row < args.rows; ++row) {
      C some[kLanes] = {};
      const int64_t prev = args.prev[row];
      if (in_range(prev, args.units)) {
        probabilities(args.logits + prev * args.units, unit0, args.units, args.log_normalizer[row], some);
      }
      __builtin_memcpy(p + row * kLanes, some, sizeof some);
    }
    for (int64_t unit = unit0; unit < last_unit && unit < unit0 + kLanes; ++unit) {
      const T* code = args.codebook + unit * args.dim;
      for_each_feature_block(args.dim, [&](int64_t d, auto n) {
        FeatureSum sum;
        for (int64_t row = 0; row < args.rows; ++row) {
          if (!in_range(args.prev[row], args.units)) continue;
          const double weight = 2 * double(args.grad[row]) * double(p[row * kLanes + unit - unit0]);
          sum.add_difference(weight, code + d, args.z + row * args.dim + d, n);
        }
        sum.write(args.grad_codebook + unit * args.dim + d, n);
      });
    }
  }
  delete[] p;
}
