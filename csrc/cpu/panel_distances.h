// Squared distances of a tile of rows to one panel of codes, in registers. Included once per instruction level by
// kernel files (see cpu/foreach_level.h) after cpu/vector.h, so it has no include guard and includes nothing.

template <class C>
constexpr int kPanelVectors = kPanelCodes / Simd<C>::lanes;  // that hold one value per code of a panel

// Rows per tile, so that its accumulators take half of the vector registers (32 with AVX-512, otherwise 16).
template <class C>
constexpr int kTileRows = (SIMD_BYTES == 64 ? 16 : 8) / kPanelVectors<C>;

// Rows [row, row + tile) of x, transposed and converted: out[d][tile].
template <int tile, class T>
void load_rows(const T* x, int64_t row, int64_t dim, Compute<T>* out) {
  for (int r = 0; r < tile; ++r) {
    for (int64_t d = 0; d < dim; ++d) out[d * tile + r] = load(x[(row + r) * dim + d]);
  }
}

// score[r][v] = sum_d (rows[d][r] - panel[d][v])^2, one multiply-add per d in ascending d.
template <int tile, class C>
inline __attribute__((always_inline)) void panel_distances(const C* rows, const C* panel, int64_t dim,
                                                           typename Simd<C>::Vector (&score)[tile][kPanelVectors<C>]) {
  using Vector = typename Simd<C>::Vector;
  constexpr int vectors = kPanelVectors<C>;
  Vector sum[tile][vectors] = {};  // a local copy, so that it stays in registers
  for (int64_t d = 0; d < dim; ++d) {
    Vector codes[vectors];
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) {  // one by one: a copy of the whole array would go through memory
      __builtin_memcpy(&codes[v], panel + d * kPanelCodes + v * Simd<C>::lanes, sizeof(Vector));
    }
#pragma GCC unroll 16
    for (int r = 0; r < tile; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) {
        const Vector difference = codes[v] - rows[d * tile + r];
        sum[r][v] += difference * difference;
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < tile; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) score[r][v] = sum[r][v];
  }
}

// Calls visit.template operator()<tile>(row) for tiles of rows that cover [first, last): full ones, then smaller ones.
template <class C, class Visit>
void for_each_tile(int64_t first, int64_t last, Visit visit) {
  constexpr int full = kTileRows<C>;
  constexpr int part = full >= 8 ? full / 4 : 1;
  int64_t row = first;
  for (; row + full <= last; row += full) visit.template operator()<full>(row);
  for (; row + part <= last; row += part) visit.template operator()<part>(row);
  for (; row < last; ++row) visit.template operator()<1>(row);
}
