// CPU search over packed panels, and its backward. Compiled once per instruction level by bmu_cpu.cpp.

#include "cpu/vector.h"
//
#include "cpu/feature_block.h"
#include "cpu/pack_panel.h"
#include "cpu/panel_distances.h"
#include "cpu/scratch.h"
//
#include "bmu/lane_best.h"

// Scores of a tile of rows against some packed panels, of which the first has the number `first_panel`. `partial` has
// room for one score per row of a full tile and code; it carries the sums from one block of features to the next.
template <int tile, int k, class T>
void search_panels(const BmuArgs<T>& args, int64_t row, const Compute<T>* packed, int64_t first_panel, int64_t panels,
                   Compute<T>* partial) {
  using C = Compute<T>;
  using Mask = typename Simd<C>::Mask;
  constexpr int lanes = Simd<C>::lanes;
  LaneBest<C, tile, k> best;
  Mask lane;
  for (int l = 0; l < lanes; ++l) lane[l] = l;
  RowBlock<C, tile> rows;
  for_each_depth(args.dim, [&](int64_t d, int64_t depth) {
    for (int r = 0; r < tile; ++r) rows.load_row(r, args.z + (row + r) * args.dim, d, depth);
    for (int64_t p = 0; p < panels; ++p) {
      PanelScores<C, tile> score;
      C* const carried = partial + p * tile * kPanelCodes;
      if (d > 0) __builtin_memcpy(score.value, carried, sizeof score);
      score.accumulate(rows, packed + (p * args.dim + d) * kPanelCodes, depth);
      if (d + depth < args.dim) {
        __builtin_memcpy(carried, score.value, sizeof score);
        continue;
      }
      for (int v = 0; v < kPanelVectors<C>; ++v) {
        const Mask code = lane + static_cast<typename Simd<C>::Integer>((first_panel + p) * kPanelCodes + v * lanes);
        for (int r = 0; r < tile; ++r) best.offer(r, score.value[r][v], code);
      }
    }
  });
  for (int r = 0; r < tile; ++r) best.join(r, args.distance + (row + r) * k, args.index + (row + r) * k);
}

template <class T, int k>
void search(const BmuArgs<T>& args, int64_t first_row, int64_t last_row, int64_t first_panel, int64_t last_panel) {
  using C = Compute<T>;
  for (int64_t i = first_row * k; i < last_row * k; ++i) {
    args.distance[i] = C(NAN);
    args.index[i] = 0;
  }
  // Panels are packed by the cacheful: a chunk stays in the second-level cache while all rows pass over it, or in the
  // first-level cache when there are too few rows to earn the way to the second.
  const int64_t panel_bytes = std::max<int64_t>(1, args.dim) * kPanelCodes * int64_t(sizeof(C));
  const int64_t chunk_bytes = last_row - first_row > 4 * kTileRows<C> ? 512 << 10 : 16 << 10;
  const int64_t chunk = std::max<int64_t>(1, chunk_bytes / panel_bytes);
  const Scratch<C> packed(chunk * panel_bytes / sizeof(C));
  const Scratch<C> partial(args.dim > kDepth ? chunk * kTileRows<C> * kPanelCodes : 0);
  for (int64_t panel = first_panel; panel < last_panel; panel += chunk) {
    const int64_t panels = std::min(chunk, last_panel - panel);
    for (int64_t p = 0; p < panels; ++p) {
      pack_panel(args.codebook, args.units, args.dim, panel + p, packed.data + p * args.dim * kPanelCodes);
    }
    for_each_tile<C>(first_row, last_row, [&]<int tile>(int64_t row) {
      search_panels<tile, k>(args, row, packed.data, panel, panels, partial.data);
    });
  }
}

template <class T>
void bmu(const BmuArgs<T>& args, int64_t first_row, int64_t last_row, int64_t first_panel, int64_t last_panel) {
  if (args.k == 1) {
    search<T, 1>(args, first_row, last_row, first_panel, last_panel);
  } else {
    search<T, 2>(args, first_row, last_row, first_panel, last_panel);
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
