// Exact scores, which define the winners (bmu.h). Compiled once per instruction level by exact_scores_cpu.cpp.

#include "cpu/vector.h"

#include "cpu/pack_panel.h"
#include "cpu/panel_distances.h"
#include "cpu/scratch.h"

#include "bmu/lane_best.h"

// Returns its argument through an optimization barrier: the compiler may otherwise fuse the product with a later
// addition (see the flags in setup.py).
template <class Value>
SOMVAE_ALWAYS_INLINE Value unfused(Value product) {
#if defined(__x86_64__)
  asm("" : "+v"(product));
#elif defined(__aarch64__)
  asm("" : "+w"(product));
#else
  asm("" : "+m"(product));
#endif
  return product;
}

struct UnfusedSquaredDifference {
  template <class Vector, class C>
  SOMVAE_ALWAYS_INLINE void operator()(Vector& sum, Vector codes, C row) const {
    const Vector difference = codes - row;
    sum += unfused(difference * difference);
  }
};

// Exact scores of pairs of a row and a code, one pair per lane. Squares of pairs by features are transposed: 2 by 2
// unless vectors have 512 bits, as transposing across 128 bits may be slow.
template <class T>
struct PairScores {
  static constexpr int lanes = SIMD_BYTES == 64 ? 8 : 2;
  static constexpr int squares = lanes == 2 ? 2 : 1;  // independent sums, which hide latency
  static constexpr int pairs = squares * lanes;
  using Vector = typename Square<double, lanes>::Vector;

  static void compute(const T* const* rows, const T* const* codes, int64_t dim, double* scores) {
    Vector sum[squares];
    for (int s = 0; s < squares; ++s) sum[s] = Vector{};
    const int64_t whole = dim - dim % lanes;
    for (int64_t d = 0; d < whole; d += lanes) add(rows, codes, d, std::integral_constant<int, lanes>(), sum);
    if (whole < dim) add(rows, codes, whole, static_cast<int>(dim - whole), sum);
    for (int s = 0; s < squares; ++s) __builtin_memcpy(scores + s * lanes, &sum[s], sizeof sum[s]);
  }

 private:
  // Adds features [d, d + count). Missing features add zero.
  template <class Count>
  static SOMVAE_ALWAYS_INLINE void add(const T* const* rows, const T* const* codes, int64_t d, Count count,
                                       Vector (&sum)[squares]) {
#pragma GCC unroll 2
    for (int s = 0; s < squares; ++s) {
      Square<double, lanes> square;
#pragma GCC unroll 8
      for (int p = 0; p < lanes; ++p) {
        const auto difference = features(rows[s * lanes + p] + d, count) - features(codes[s * lanes + p] + d, count);
        square.row[p] = unfused(difference * difference);
      }
      square.transpose();
#pragma GCC unroll 8
      for (int i = 0; i < lanes; ++i) sum[s] += square.row[i];
    }
  }

  template <class Count>
  static SOMVAE_ALWAYS_INLINE Vector features(const T* x, Count count) {
    if constexpr (!std::is_same_v<Count, int>) {
      if constexpr (std::is_same_v<T, float>) return doubles<Vector>(x);
    }
    double values[lanes] = {};
    for (int i = 0; i < count; ++i) values[i] = double(load(x[i]));
    Vector vector;
    __builtin_memcpy(&vector, values, sizeof vector);
    return vector;
  }
};

template <class T>
void pair_scores(const T* const* rows, const T* const* codes, int64_t count, int64_t dim, double* score) {
  constexpr int pairs = PairScores<T>::pairs;
  int64_t i = 0;
  for (; i + pairs <= count; i += pairs) PairScores<T>::compute(rows + i, codes + i, dim, score + i);
  if (i == count) return;
  const T *last_rows[pairs], *last_codes[pairs];  // padded with the last pair
  double scores[pairs];
  for (int p = 0; p < pairs; ++p) {
    last_rows[p] = rows[std::min(i + p, count - 1)];
    last_codes[p] = codes[std::min(i + p, count - 1)];
  }
  PairScores<T>::compute(last_rows, last_codes, dim, scores);
  for (int p = 0; i < count; ++i, ++p) score[i] = scores[p];
}

template <int k, class T>
void search_exactly(const SearchedCodes<T>& codes, const T* const* rows, int64_t count, double* score, int64_t* index) {
  constexpr int64_t cache_bytes = 512 << 10;
  const int64_t dim = codes.dim, panel_size = std::max<int64_t>(1, dim) * kPanelCodes;
  const int64_t chunk = std::max<int64_t>(1, cache_bytes / int64_t(panel_size * sizeof(double)));
  const Scratch<double> packed(chunk * panel_size);
  const Scratch<double> partial(dim > kDepth ? chunk * kTileRows<double> * kPanelCodes : 0);
  for (int64_t i = 0; i < count * k; ++i) {
    score[i] = NAN;
    index[i] = 0;
  }
  for (int64_t first = codes.first_panel; first < codes.last_panel; first += chunk) {
    const int64_t panels = std::min(chunk, codes.last_panel - first);
    for (int64_t p = 0; p < panels; ++p) {
      pack_panel(codes.codebook, codes.count, dim, first + p, packed.data + p * dim * kPanelCodes);
    }
    for_each_tile<double>(0, count, [&]<int tile>(int64_t i) {
      using Mask = typename Simd<double>::Mask;
      constexpr int lanes = Simd<double>::lanes;
      LaneBest<double, tile, k> best;
      Mask lane;
      for (int l = 0; l < lanes; ++l) lane[l] = l;
      RowBlock<double, tile> block;
      for_each_depth(dim, [&](int64_t d, int64_t depth) {
        for (int r = 0; r < tile; ++r) block.load_row(r, rows[i + r], d, depth);
        for (int64_t p = 0; p < panels; ++p) {
          PanelScores<double, tile> sums;
          double* const carried = partial.data + p * tile * kPanelCodes;
          if (d > 0) sums.load(carried);
          sums.accumulate(block, packed.data + (p * dim + d) * kPanelCodes, depth, UnfusedSquaredDifference());
          if (d + depth < dim) {
            sums.store(carried);
            continue;
          }
          for (int v = 0; v < kPanelVectors<double>; ++v) {
            const Mask code = lane + ((first + p) * kPanelCodes + v * lanes);
            for (int r = 0; r < tile; ++r) best.offer(r, sums.value[r][v], code);
          }
        }
      });
      for (int r = 0; r < tile; ++r) best.join(r, score + (i + r) * k, index + (i + r) * k);
    });
  }
}

template <class T>
void exact_search(const SearchedCodes<T>& codes, const T* const* rows, int64_t count, int k, double* score,
                  int64_t* index) {
  if (k == 1) {
    search_exactly<1>(codes, rows, count, score, index);
  } else {
    search_exactly<2>(codes, rows, count, score, index);
  }
}
