// CPU search over packed panels, and its backward. Compiled once per instruction level by bmu_cpu.cpp.

#include "cpu/vector.h"
//
#include "cpu/feature_block.h"
#include "cpu/panel_distances.h"

// The best k scores in each lane of a tile's rows, over the panels visited so far.
template <class C, int tile, int k>
struct LaneBest {
  using Vector = typename Simd<C>::Vector;
  using Mask = typename Simd<C>::Mask;
  Vector score[tile][k];
  Mask index[tile][k];

  LaneBest() {
    for (int r = 0; r < tile; ++r) {
      for (int i = 0; i < k; ++i) {
        score[r][i] = Vector{} + C(NAN);
        index[r][i] = Mask{};
      }
    }
  }

  // Codes come in ascending order within a lane, so equal scores keep the smaller index.
  inline __attribute__((always_inline)) void offer(int r, Vector s, Mask i) {
    const Mask number = s == s;
    const Mask first = ~(score[r][0] <= s) & number;
    if constexpr (k == 2) {
      const Mask second = ~(score[r][1] <= s) & number;
      score[r][1] = first ? score[r][0] : (second ? s : score[r][1]);
      index[r][1] = first ? index[r][0] : (second ? i : index[r][1]);
    }
    score[r][0] = first ? s : score[r][0];
    index[r][0] = first ? i : index[r][0];
  }
};

template <class C, int tile, int k>
void search_panels(const C* rows, const C* packed, int64_t first_panel, int64_t last_panel, int64_t dim, C* distance,
                   int64_t* index) {
  using Vector = typename Simd<C>::Vector;
  using Mask = typename Simd<C>::Mask;
  constexpr int lanes = Simd<C>::lanes;
  LaneBest<C, tile, k> best;
  Mask lane;
  for (int l = 0; l < lanes; ++l) lane[l] = l;
  for (int64_t panel = first_panel; panel < last_panel; ++panel) {
    Vector score[tile][kPanelVectors<C>];
    panel_distances<tile>(rows, packed + panel * dim * kPanelCodes, dim, score);
    for (int v = 0; v < kPanelVectors<C>; ++v) {
      const Mask code = lane + static_cast<typename Simd<C>::Integer>(panel * kPanelCodes + v * lanes);
      for (int r = 0; r < tile; ++r) best.offer(r, score[r][v], code);
    }
  }
  for (int r = 0; r < tile; ++r) {
    BestUnits<C, int64_t, k> found;
    for (int i = 0; i < k; ++i) {
      found.score[i] = distance[r * k + i];
      found.index[i] = index[r * k + i];
    }
    for (int i = 0; i < k; ++i) {
      for (int l = 0; l < lanes; ++l) found.offer(best.score[r][i][l], int64_t(best.index[r][i][l]));
    }
    for (int i = 0; i < k; ++i) {
      distance[r * k + i] = found.score[i];
      index[r * k + i] = found.index[i];
    }
  }
}

template <class T, int k>
void search(const BmuArgs<T>& args, const Compute<T>* packed, int64_t first, int64_t last) {
  using C = Compute<T>;
  for (int64_t i = first * k; i < last * k; ++i) {
    args.distance[i] = C(NAN);
    args.index[i] = 0;
  }
  // Panels by the cacheful: a chunk stays in the second-level cache while all rows pass over it.
  constexpr int64_t chunk_bytes = 512 << 10;
  const int64_t panel_bytes = args.dim * kPanelCodes * int64_t(sizeof(C));
  const int64_t chunk = panel_bytes < chunk_bytes ? chunk_bytes / (panel_bytes > 0 ? panel_bytes : 1) : 1;
  const int64_t panels = panel_count(args.units);
  C* rows = new C[kTileRows<C> * (args.dim > 0 ? args.dim : 1)];
  for (int64_t panel = 0; panel < panels; panel += chunk) {
    const int64_t last_panel = panel + chunk < panels ? panel + chunk : panels;
    for_each_tile<C>(first, last, [&]<int tile>(int64_t row) {
      load_rows<tile>(args.z, row, args.dim, rows);
      search_panels<C, tile, k>(rows, packed, panel, last_panel, args.dim, args.distance + row * k,
                                args.index + row * k);
    });
  }
  delete[] rows;
}

template <class T>
void bmu(const BmuArgs<T>& args, const Compute<T>* packed, int64_t first, int64_t last) {
  if (args.k == 1) {
    search<T, 1>(args, packed, first, last);
  } else {
    search<T, 2>(args, packed, first, last);
  }
}

template <class T>
void bmu_backward_z(const BmuBackwardArgs<T>& args, int64_t first_row, int64_t last_row) {
  for (int64_t row = first_row; row < last_row; ++row) {
    const T* z = args.z + row * args.dim;
    T* out = args.grad_z + row * args.dim;
    for_each_feature_block(args.dim, [&](int64_t d, auto n) {
      FeatureSum sum;
      for (int64_t pair = row * args.k; pair < (row + 1) * args.k; ++pair) {
        const T* code = args.codebook + args.index[pair] * args.dim;
        sum.add_difference(2 * double(args.grad[pair]), z + d, code + d, n);
      }
      sum.write(out + d, n);
    });
  }
}

template <class T>
void bmu_backward_codebook(const BmuBackwardArgs<T>& args, int64_t first_unit, int64_t last_unit) {
  for (int64_t unit = first_unit; unit < last_unit; ++unit) {
    const T* code = args.codebook + unit * args.dim;
    for_each_feature_block(args.dim, [&](int64_t d, auto n) {
      FeatureSum sum;
      for (int64_t i = args.offsets[unit]; i < args.offsets[unit + 1]; ++i) {
        const int64_t pair = args.order[i];
        sum.add_difference(2 * double(args.grad[pair]), code + d, args.z + pair / args.k * args.dim + d, n);
      }
      sum.write(args.grad_codebook + unit * args.dim + d, n);
    });
  }
}
