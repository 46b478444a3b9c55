// Projects rows onto the basis of a map index, with bounds on the rounding (see bmu/pruned/map_index.h). Included once
// per instruction level by pruned_search_cpu_kernel.h, so it has no include guard and includes nothing.

constexpr double kSlack = 0x1p-11;  // a of bmu/pruned/map_index.h

// The limit that lower bounds are compared with: the bounds of a code that can win a row do not exceed it.
template <class C>
struct BoundLimit {
  double basis;

  explicit BoundLimit(const MapIndex<C>& map)
      : basis((1 + map.basis_error + map.basis_error * map.basis_error) * (1 + 64 * kRoundoff<C>)) {}

  // score_limit is the limit of bmu/score_limit.h, error that of the row's RowBounds.
  C operator()(C score_limit, double error) const {
    const double bound = double(score_limit) * basis + 2 * error * error / kSlack;
    return static_cast<C>(bound * (1 + 4 * kRoundoff<C>));
  }
};

// The parts of a row's bounds besides its projection.
template <class C>
struct RowBounds {
  C q_lo, q_hi;
  double error;  // the largest error of the projected distance between the row and a code
};

template <class C>
RowBounds<C> row_bounds(const MapIndex<C>& map, double squared_norm, const C* p) {
  constexpr double u = kRoundoff<C>, exact = 0x1p-52;
  double squared_projection = 0;
  for (int64_t j = 0; j < map.rank; ++j) squared_projection += double(p[j]) * double(p[j]);
  // Products with rounded differences are summed in blocks of at most kDepth terms, then the sums of the blocks.
  const double terms = double(std::min(map.dim, kDepth) + map.dim / kDepth + 2);
  const double error =
      rounding(terms, u) * std::sqrt(double(map.rank)) * (1 + map.basis_error) * std::sqrt(squared_norm) * (1 + exact);
  const double norm_error = (4 * u + double(map.dim + 4) * exact) * squared_norm;
  const double projection_error =
      2 * std::sqrt(squared_projection) * error + error * error + (map.basis_error + 128 * exact) * squared_projection;
  const double underflow = 4 * double(map.dim) * std::numeric_limits<double>::min();
  const double squared_q = squared_norm - squared_projection,
               q_error = (norm_error + projection_error) * (1 + 16 * exact) + underflow;
  return {static_cast<C>(std::sqrt(std::max(0.0, squared_q - q_error)) * (1 - 2 * u)),
          static_cast<C>(std::sqrt(std::max(0.0, squared_q + q_error)) * (1 + 2 * u)), error + map.code_error};
}

// Computes p and |x|^2 of `tile` rows.
template <int tile, class T>
void project_rows(const MapIndex<Compute<T>>& map, const T* z, Compute<T>* p, double* squared_norm) {
  using C = Compute<T>;
  constexpr int lanes = 16;
  const int64_t panels = panel_count(map.rank);
  PanelScores<C, tile> products[kLargestRank / kPanelCodes];
  double norms[tile][lanes] = {};
  RowBlock<C, tile> x;
  for_each_depth(map.dim, [&](int64_t d, int64_t depth) {
    for (int r = 0; r < tile; ++r) {
      x.load_row(r, z + r * map.dim, d, depth);
      C* const values = x.values[r];
      for (int64_t i = 0; i < depth; ++i) values[i] -= map.mean[d + i];
      for (int64_t i = depth; i % lanes != 0; ++i) values[i] = 0;
      for (int64_t i = 0; i < depth; i += lanes) {
        for (int l = 0; l < lanes; ++l) norms[r][l] += double(values[i + l]) * double(values[i + l]);
      }
    }
    for (int64_t panel = 0; panel < panels; ++panel) {
      PanelScores<C, tile> sum;
      sum.accumulate(x, map.basis + (panel * map.dim + d) * kPanelCodes, depth, Product());
      for (int r = 0; r < tile; ++r) {
        for (int v = 0; v < kPanelVectors<C>; ++v) products[panel].value[r][v] += sum.value[r][v];
      }
    }
  });
  for (int r = 0; r < tile; ++r) {
    for (int64_t j = 0; j < map.rank; ++j) {
      const int in_panel = static_cast<int>(j % kPanelCodes);
      p[r * map.rank + j] = products[j / kPanelCodes].value[r][in_panel / Simd<C>::lanes][in_panel % Simd<C>::lanes];
    }
    squared_norm[r] = 0;
    for (const double part : norms[r]) squared_norm[r] += part;
  }
}
