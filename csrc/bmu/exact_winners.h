// The winners by the scores that define them (bmu.h): of some candidates, or of all codes. Included once per
// instruction level by kernel files (see cpu/foreach_level.h) after cpu/vector.h, so it has no include guard and
// includes nothing.

// Exact scores of some pairs of a row and a code. Pairs lie in lanes, and squares of pairs by features are transposed:
// of 2 by 2 where it is not known that transposing across 128 bits is quick.
template <class T>
struct PairScores {
  static constexpr int lanes = SIMD_BYTES == 64 ? 8 : 2;
  static constexpr int squares = lanes == 2 ? 2 : 1;  // whose sums are under way at the same time
  static constexpr int pairs = squares * lanes;
  using Vector = typename Square<double, lanes>::Vector;

  static void compute(const T* const (&rows)[pairs], const T* const (&codes)[pairs], int64_t dim, double* scores) {
    Vector sum[squares];
    for (int s = 0; s < squares; ++s) sum[s] = Vector{};
    const int64_t whole = dim - dim % lanes;
    for (int64_t d = 0; d < whole; d += lanes) add(rows, codes, d, std::integral_constant<int, lanes>(), sum);
    if (whole < dim) add(rows, codes, whole, static_cast<int>(dim - whole), sum);
    for (int s = 0; s < squares; ++s) __builtin_memcpy(scores + s * lanes, &sum[s], sizeof sum[s]);
  }

 private:
  // Features [d, d + count); missing ones add a zero, which changes no sum.
  template <class Count>
  static inline __attribute__((always_inline)) void add(const T* const (&rows)[pairs], const T* const (&codes)[pairs],
                                                        int64_t d, Count count, Vector (&sum)[squares]) {
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
  static inline __attribute__((always_inline)) Vector features(const T* x, Count count) {
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

// The codes that are searched, and some of a codebook's panels of 16 of them.
template <class T>
struct SearchedCodes {
  const T* codebook;
  int64_t units, dim;
  int64_t first_panel, last_panel;
};

// Rows against all codes. row(i) is where row i lies, found(i, best) takes its winners; i is each of which[0, count).
template <int k, class T, class Row, class Found>
void search_exactly(const SearchedCodes<T>& codes, const int32_t* which, int64_t count, Row row, Found found) {
  constexpr int64_t cacheful = 512 << 10;
  const int64_t dim = codes.dim, panel_size = std::max<int64_t>(1, dim) * kPanelCodes;
  const int64_t chunk = std::max<int64_t>(1, cacheful / int64_t(panel_size * sizeof(double)));
  const Scratch<double> packed(chunk * panel_size);
  const Scratch<double> partial(dim > kDepth ? chunk * kTileRows<double> * kPanelCodes : 0);
  const Scratch<double> score(count * k);
  const Scratch<int64_t> index(count * k);
  for (int64_t i = 0; i < count * k; ++i) {
    score[i] = NAN;
    index[i] = 0;
  }
  for (int64_t first = codes.first_panel; first < codes.last_panel; first += chunk) {
    const int64_t panels = std::min(chunk, codes.last_panel - first);
    for (int64_t p = 0; p < panels; ++p) {
      pack_panel(codes.codebook, codes.units, dim, first + p, packed.data + p * dim * kPanelCodes);
    }
    for_each_tile<double>(0, count, [&]<int tile>(int64_t i) {
      using Mask = typename Simd<double>::Mask;
      constexpr int lanes = Simd<double>::lanes;
      LaneBest<double, tile, k> best;
      Mask lane;
      for (int l = 0; l < lanes; ++l) lane[l] = l;
      RowBlock<double, tile> rows;
      for_each_depth(dim, [&](int64_t d, int64_t depth) {
        for (int r = 0; r < tile; ++r) rows.load_row(r, row(which[i + r]), d, depth);
        for (int64_t p = 0; p < panels; ++p) {
          PanelScores<double, tile> sums;
          double* const carried = partial.data + p * tile * kPanelCodes;
          if (d > 0) sums.load(carried);
          sums.accumulate(rows, packed.data + (p * dim + d) * kPanelCodes, depth, UnfusedSquaredDifference());
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
      for (int r = 0; r < tile; ++r) best.join(r, score.data + (i + r) * k, index.data + (i + r) * k);
    });
  }
  for (int64_t i = 0; i < count; ++i) {
    BestUnits<double, int64_t, k> best;
    for (int n = 0; n < k; ++n) {
      best.score[n] = score[i * k + n];
      best.index[n] = index[i * k + n];
    }
    found(which[i], best);
  }
}

// Rows [0, count), each against its candidates.
template <int k, class T, class Row, class Found>
void decide(const SearchedCodes<T>& codes, Candidates<Compute<T>, k>* candidates, int64_t count, Row row, Found found) {
  using Exact = PairScores<T>;
  constexpr int most = 512;
  const T *pair_row[most], *pair_code[most];
  int32_t pair_unit[most];
  double score[most];
  const Scratch<int32_t> of_all_codes(count);
  int64_t all_codes = 0, first_row = 0;
  int pairs = 0;

  const auto decide_pairs = [&](int64_t last_row) {
    for (int p = pairs; p % Exact::pairs != 0; ++p) {  // the last one fills up
      pair_row[p] = pair_row[p - 1];
      pair_code[p] = pair_code[p - 1];
    }
    for (int p = 0; p < pairs; p += Exact::pairs) {
      Exact::compute(reinterpret_cast<const T* const(&)[Exact::pairs]>(pair_row[p]),
                     reinterpret_cast<const T* const(&)[Exact::pairs]>(pair_code[p]), codes.dim, score + p);
    }
    int p = 0;
    for (; first_row < last_row; ++first_row) {
      const int32_t listed = candidates[first_row].count;
      if (listed == Candidates<Compute<T>, k>::kAllCodes) continue;
      BestUnits<double, int64_t, k> best;
      best.reset();
      for (const int end = p + listed; p < end; ++p) best.offer(score[p], int64_t(pair_unit[p]));
      found(first_row, best);
    }
    pairs = 0;
  };

  for (int64_t i = 0; i < count; ++i) {
    Candidates<Compute<T>, k>& own = candidates[i];
    if (own.count == own.kAllCodes) {
      of_all_codes[all_codes++] = static_cast<int32_t>(i);
      continue;
    }
    own.drop_losers();
    if (pairs + own.count > most) decide_pairs(i);
    for (int32_t c = 0; c < own.count; ++c, ++pairs) {
      pair_row[pairs] = row(i);
      pair_code[pairs] = codes.codebook + own.code[c] * codes.dim;
      pair_unit[pairs] = own.code[c];
    }
  }
  decide_pairs(count);
  if (all_codes > 0) search_exactly<k>(codes, of_all_codes.data, all_codes, row, found);
}
