// CPU expected distances. Compiled once per instruction level by expected_distance_cpu.cpp.

#include "cpu/feature_block.h"
#include "cpu/panel_distances.h"
#include "cpu/squared_distance.h"
#include "transition/softmax_row_cpu.h"

// sum_j p_nj d_nj for a tile of rows, panel after panel; a row's sum has the same order in a tile of any size.
template <int tile, class T>
void expect_tile(const ExpectedDistanceArgs<T>& args, const Compute<T>* packed, const Compute<T>* rows, int64_t row) {
  using C = Compute<T>;
  using Vector = typename Simd<C>::Vector;
  double sum[tile] = {};
  const int64_t panels = panel_count(args.units);
  for (int64_t panel = 0; panel < panels; ++panel) {
    Vector distance[tile][Simd<C>::per_panel];
    panel_distances<tile>(rows, packed + panel * args.dim * kPanelCodes, args.dim, distance);
    const int64_t unit = panel * kPanelCodes;
    const int codes = args.units - unit < kPanelCodes ? args.units - unit : kPanelCodes;
    for (int r = 0; r < tile; ++r) {
      const int64_t prev = args.prev[row + r];
      if (!in_range(prev, args.units)) continue;
      const T* logits = args.logits + prev * args.units + unit;
      C values[kPanelCodes];
      __builtin_memcpy(values, distance[r], sizeof values);
      for (int j = 0; j < codes; ++j) {
        sum[r] += double(probability(logits[j], args.log_normalizer[row + r])) * double(values[j]);
      }
    }
  }
  for (int r = 0; r < tile; ++r) {
    args.expectation[row + r] = in_range(args.prev[row + r], args.units) ? static_cast<C>(sum[r]) : C(NAN);
  }
}

template <class T>
void expected_distance(const ExpectedDistanceArgs<T>& args, const Compute<T>* packed, int64_t first_row,
                       int64_t last_row) {
  using C = Compute<T>;
  for (int64_t row = first_row; row < last_row; ++row) {
    const int64_t prev = args.prev[row];
    args.log_normalizer[row] =
        in_range(prev, args.units) ? log_sum_exp(args.logits + prev * args.units, args.units) : NAN;
  }
  C* rows = new C[Simd<C>::tile_rows * (args.dim > 0 ? args.dim : 1)];
  for_each_tile<C>(first_row, last_row, [&]<int tile>(int64_t row) {
    load_rows<tile>(args.z, row, args.dim, rows);
    expect_tile<tile>(args, packed, rows, row);
  });
  delete[] rows;
}

template <class T>
void expected_distance_backward_logits(const ExpectedDistanceBackwardArgs<T>& args, int64_t first, int64_t last) {
  double* sum = new double[args.units];
  for (int64_t r = first; r < last; ++r) {
    const GradientRow group = gradient_row(args, r);
    T* out = args.grad_logits + r * args.units;
    if (group.count == 0 || !in_range(group.unit, args.units)) {
      for (int64_t j = 0; j < args.units; ++j) out[j] = store<T>(group.count == 0 ? 0.0 : NAN);
      continue;
    }
    for (int64_t j = 0; j < args.units; ++j) sum[j] = 0;
    for (int64_t i = 0; i < group.count; ++i) {
      const int64_t row = group.member(i);
      const T* z = args.z + row * args.dim;
      const double grad = args.grad[row], expectation = args.expectation[row];
      for (int64_t j = 0; j < args.units; ++j) {
        sum[j] += grad * (double(squared_distance(z, args.codebook + j * args.dim, args.dim)) - expectation);
      }
    }
    const T* logits = args.logits + group.unit * args.units;
    const double log_normalizer = args.log_normalizer[group.member(0)];
    for (int64_t j = 0; j < args.units; ++j) {
      out[j] = store<T>(sum[j] * double(probability(logits[j], log_normalizer)));
    }
  }
  delete[] sum;
}

template <class T>
void expected_distance_backward_z(const ExpectedDistanceBackwardArgs<T>& args, int64_t first_row, int64_t last_row) {
  double* weight = new double[args.units];
  for (int64_t row = first_row; row < last_row; ++row) {
    const int64_t prev = args.prev[row];
    const bool valid = in_range(prev, args.units);
    for (int64_t j = 0; j < args.units; ++j) {
      weight[j] = valid ? 2 * double(args.grad[row]) *
                              double(probability(args.logits[prev * args.units + j], args.log_normalizer[row]))
                        : NAN;
    }
    const T* z = args.z + row * args.dim;
    for_each_feature_block(args.dim, [&](int64_t d, int n) {
      FeatureSum sum;
      for (int64_t j = 0; j < args.units; ++j) {
        sum.add_difference(weight[j], z + d, args.codebook + j * args.dim + d, n);
      }
      sum.write(args.grad_z + row * args.dim + d, n);
    });
  }
  delete[] weight;
}

template <class T>
void expected_distance_backward_codebook(const ExpectedDistanceBackwardArgs<T>& args, int64_t first_unit,
                                         int64_t last_unit) {
  double* weight = new double[args.rows > 0 ? args.rows : 1];
  for (int64_t unit = first_unit; unit < last_unit; ++unit) {
    for (int64_t row = 0; row < args.rows; ++row) {
      const int64_t prev = args.prev[row];
      weight[row] = in_range(prev, args.units)
                        ? 2 * double(args.grad[row]) *
                              double(probability(args.logits[prev * args.units + unit], args.log_normalizer[row]))
                        : 0.0;
    }
    const T* code = args.codebook + unit * args.dim;
    for_each_feature_block(args.dim, [&](int64_t d, int n) {
      FeatureSum sum;
      for (int64_t row = 0; row < args.rows; ++row) {
        if (in_range(args.prev[row], args.units)) {
          sum.add_difference(weight[row], code + d, args.z + row * args.dim + d, n);
        }
      }
      sum.write(args.grad_codebook + unit * args.dim + d, n);
    });
  }
  delete[] weight;
}
