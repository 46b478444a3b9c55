// CPU search over packed panels, and its backward pass. Compiled once per instruction level by bmu_cpu.cpp.

#include "cpu/vector.h"

#include "cpu/feature_block.h"
#include "cpu/pack_panel.h"
#include "cpu/panel_distances.h"
#include "cpu/scratch.h"

#include "bmu/candidates.h"

#include "bmu/decide.h"

// Panels whose scores are screened together: the least score in each lane tells whether any code can win. Enough panels
// to make screening cheap compared with scoring, few enough to keep their scores in the L1 cache.
constexpr int64_t kGroupPanels = 8;

// The least score of a row in each lane of a group of panels.
template <class C>
SOMVAE_ALWAYS_INLINE typename Simd<C>::Vector least_scores(const C* scores, int64_t stride, int64_t panels) {
  using Vector = typename Simd<C>::Vector;
  Vector least = Vector{} + std::numeric_limits<C>::infinity();
  for (int64_t p = 0; p < panels; ++p) {
    for (int v = 0; v < kPanelVectors<C>; ++v) {
      const Vector score = panel_vector(scores + p * stride, 0, v);
      least = score < least ? score : least;
    }
  }
  return least;
}

// Adds the codes of a group of panels that can win a row to its candidates. The score of code i of panel p is
// scores[p * stride + i].
template <int k, class C>
__attribute__((noinline)) void take_candidates(Candidates<C, k>& candidates, typename Simd<C>::Vector least,
                                               const C* scores, int64_t stride, int64_t panels, int64_t first_panel,
                                               const ScoreLimit<C>& limits) {
  candidates.lower(least, limits);
  for (int64_t p = 0; p < panels; ++p) {
    const C* const score = scores + p * stride;
    unsigned bits = 0;
    for (int v = 0; v < kPanelVectors<C>; ++v) {
      bits |= lane_bits(panel_vector(score, 0, v) <= candidates.limit) << v * Simd<C>::lanes;
    }
    for (; bits != 0; bits &= bits - 1) {
      const int i = __builtin_ctz(bits);
      candidates.add(static_cast<int32_t>((first_panel + p) * kPanelCodes + i), score[i]);
    }
  }
}

// Screens packed panels, the first of which is panel `first_panel`, for a tile of rows. `scores` has room for a group
// of panels, or for all panels if partial sums are carried from one block of features to the next.
template <int tile, int k, class T>
void screen_panels(const BmuArgs<T>& args, int64_t row, Candidates<Compute<T>, k>* candidates,
                   const ScoreLimit<Compute<T>>& limits, const Compute<T>* packed, int64_t first_panel, int64_t panels,
                   Compute<T>* scores) {
  using C = Compute<T>;
  using Vector = typename Simd<C>::Vector;
  constexpr int64_t size = tile * kPanelCodes;
  RowBlock<C, tile> rows;
  for_each_depth(args.dim, [&](int64_t d, int64_t depth) {
    const bool whole = d + depth >= args.dim;
    for (int r = 0; r < tile; ++r) rows.load_row(r, args.z + (row + r) * args.dim, d, depth);
    for (int64_t group = 0; group < panels; group += kGroupPanels) {
      const int64_t last = std::min(group + kGroupPanels, panels);
      C* const group_scores = scores + (args.dim > kDepth ? group * size : 0);
      for (int64_t p = group; p < last; ++p) {
        PanelScores<C, tile> score;
        C* const place = group_scores + (p - group) * size;
        if (d > 0) score.load(place);
        score.accumulate(rows, packed + (p * args.dim + d) * kPanelCodes, depth);
        score.store(place);
      }
      if (!whole) continue;
      for (int r = 0; r < tile; ++r) {
        const C* const row_scores = group_scores + r * kPanelCodes;
        const Vector least = least_scores(row_scores, size, last - group);
        if (lane_bits(least <= candidates[r].limit) == 0) continue;
        take_candidates<k>(candidates[r], least, row_scores, size, last - group, first_panel + group, limits);
      }
    }
  });
}

template <int k, class T>
void search(const BmuArgs<T>& args, int64_t first_row, int64_t last_row, int64_t first_panel, int64_t last_panel,
            double* score) {
  using C = Compute<T>;
  // Panels are packed a chunk at a time. A chunk stays in the L2 cache while all rows pass over it, or in the L1 cache
  // if there are too few rows to amortize the trip to L2.
  const int64_t panel_bytes = std::max<int64_t>(1, args.dim) * kPanelCodes * int64_t(sizeof(C));
  const int64_t chunk_bytes = last_row - first_row > 4 * kTileRows<C> ? 512 << 10 : 16 << 10;
  const int64_t chunk = std::max<int64_t>(1, chunk_bytes / panel_bytes);
  const Scratch<C> packed(chunk * panel_bytes / sizeof(C));
  const Scratch<C> scores((args.dim > kDepth ? chunk : kGroupPanels) * kTileRows<C> * kPanelCodes);
  // Rows per block: few, so that their candidates are still in the cache when the winners are chosen, unless the panels
  // have to be packed again for each block.
  const int64_t most_rows = std::min<int64_t>(last_panel - first_panel <= chunk ? 512 : 4096, last_row - first_row);
  const Scratch<Candidates<C, k>> candidates(most_rows);
  const ScoreLimit<C> limits(args.dim);
  const SearchedCodes<T> codes = {args.codebook, args.codes, args.dim, first_panel, last_panel};
  int64_t packed_panel = -1;
  for (int64_t first = first_row; first < last_row; first += most_rows) {
    const int64_t last = std::min(first + most_rows, last_row);
    for (int64_t i = 0; i < last - first; ++i) candidates[i].reset();
    for (int64_t panel = first_panel; panel < last_panel; panel += chunk) {
      const int64_t panels = std::min(chunk, last_panel - panel);
      for (int64_t p = 0; p < panels && packed_panel != panel; ++p) {
        pack_panel(args.codebook, args.codes, args.dim, panel + p, packed.data + p * args.dim * kPanelCodes);
      }
      packed_panel = panel;
      for_each_tile<C>(first, last, [&]<int tile>(int64_t row) {
        screen_panels<tile, k>(args, row, candidates.data + (row - first), limits, packed.data, panel, panels,
                               scores.data);
      });
    }
    decide<k>(
        codes, candidates.data, last - first, [&](int64_t i) { return args.z + (first + i) * args.dim; },
        [&](int64_t i, const BestCodes<double, int64_t, k>& best) {
          for (int n = 0; n < k; ++n) {
            const int64_t slot = (first + i) * k + n;
            args.index[slot] = best.index[n];
            if (score != nullptr) {
              score[slot] = best.score[n];
            } else {
              args.distance[slot] = static_cast<C>(best.score[n]);
            }
          }
        });
  }
}

template <class T>
void bmu(const BmuArgs<T>& args, int64_t first_row, int64_t last_row, int64_t first_panel, int64_t last_panel,
         double* score) {
  if (args.k == 1) {
    search<1>(args, first_row, last_row, first_panel, last_panel, score);
  } else {
    search<2>(args, first_row, last_row, first_panel, last_panel, score);
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
void bmu_backward_codebook(const BmuBackwardArgs<T>& args, int64_t first_code, int64_t last_code) {
  for (int64_t code = first_code; code < last_code; ++code) {
    const T* features = args.codebook + code * args.dim;
    for_each_feature_block(args.dim, [&](int64_t d, auto n) {
      FeatureSum sum;
      for (int64_t i = args.offsets[code]; i < args.offsets[code + 1]; ++i) {
        const int64_t pair = args.order[i];
        sum.add_difference(2 * double(args.grad[pair]), features + d, args.z + pair / args.k * args.dim + d, n);
      }
      sum.write(args.grad_codebook + code * args.dim + d, n);
    });
  }
}
