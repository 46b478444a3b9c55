// Computes squared distances of a tile of rows to one panel of codes in registers. Included once per instruction level
// by kernel files (see cpu/foreach_level.h) after cpu/vector.h, so it has no include guard and includes nothing.

template <class C>
constexpr int kPanelVectors = kPanelCodes / Simd<C>::lanes;  // vectors that hold one value per code

// Rows per tile: its accumulators take half of the vector registers (32 with AVX-512, otherwise 16).
template <class C>
constexpr int kTileRows = (SIMD_BYTES == 64 ? 16 : 8) / kPanelVectors<C>;

// Features of a tile processed at a time. With this many, 16 rows and a panel fit into the L1 cache.
constexpr int64_t kDepth = 256;

// Distance in memory between the rows of a block. It is constant, so that the kernel reads every row at a fixed offset
// from one pointer, and not a power of two, so that rows do not compete for the same cache sets.
constexpr int64_t kRowPitch = kDepth + 16;

// A block of features of a tile's rows.
template <class C, int tile>
struct RowBlock {
  C values[tile][kRowPitch];

  SOMVAE_ALWAYS_INLINE C operator()(int r, int64_t d) const { return values[r][d]; }

  // Loads and converts features [first, first + depth) of a row, in pieces of constant size. A loop of unknown length
  // would compile to a call of memcpy, whose overhead exceeds the cost of copying these few features.
  template <class T>
  SOMVAE_ALWAYS_INLINE void load_row(int r, const T* row, int64_t first, int64_t depth) {
    constexpr int piece = 16;
    if (depth < piece) {
      for (int i = 0; i < piece; ++i) values[r][i] = i < depth ? load(row[first + i]) : C(0);
      return;
    }
    for (int64_t d = 0; d < depth; d += piece) {
      const int64_t start = std::min(d, depth - piece);  // the last piece overlaps the previous one
      for (int i = 0; i < piece; ++i) values[r][start + i] = load(row[first + start + i]);
    }
  }
};

// Vector v of feature j of a panel.
template <class C>
SOMVAE_ALWAYS_INLINE typename Simd<C>::Vector panel_vector(const C* panel, int64_t j, int v) {
  typename Simd<C>::Vector values;
  __builtin_memcpy(&values, panel + j * kPanelCodes + v * Simd<C>::lanes, sizeof values);
  return values;
}

struct SquaredDifference {
  template <class Vector, class C>
  SOMVAE_ALWAYS_INLINE void operator()(Vector& sum, Vector codes, C row) const {
    const Vector difference = codes - row;
    sum += difference * difference;
  }
};

struct Product {
  template <class Vector, class C>
  SOMVAE_ALWAYS_INLINE void operator()(Vector& sum, Vector codes, C row) const {
    sum += codes * row;
  }
};

// One sum per row of a tile and code of a panel: a squared distance or a dot product.
template <class C, int tile>
struct PanelScores {
  typename Simd<C>::Vector value[tile][kPanelVectors<C>];

  SOMVAE_ALWAYS_INLINE PanelScores() {  // sets zeros vector by vector
#pragma GCC unroll 16
    for (int r = 0; r < tile; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < kPanelVectors<C>; ++v) value[r][v] = typename Simd<C>::Vector{};
    }
  }

  // Copies vector by vector: a copy of the whole array would keep the sums out of registers.
  SOMVAE_ALWAYS_INLINE void load(const C* from) {
#pragma GCC unroll 16
    for (int r = 0; r < tile; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < kPanelVectors<C>; ++v) value[r][v] = panel_vector(from, r, v);
    }
  }
  SOMVAE_ALWAYS_INLINE void store(C* to) const {
#pragma GCC unroll 16
    for (int r = 0; r < tile; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < kPanelVectors<C>; ++v) {
        __builtin_memcpy(to + r * kPanelCodes + v * Simd<C>::lanes, &value[r][v], sizeof value[r][v]);
      }
    }
  }

  // Adds the terms of features [0, depth) of `rows` and `panel`, one multiply-add per feature in ascending order.
  // `rows` is a RowBlock, or any other callable whose rows(r, d) is feature d of row r.
  template <class Term = SquaredDifference, class Rows>
  SOMVAE_ALWAYS_INLINE void accumulate(const Rows& rows, const C* panel, int64_t depth, Term add = {}) {
    using Vector = typename Simd<C>::Vector;
    constexpr int vectors = kPanelVectors<C>;
    Vector sum[tile][vectors];  // a local copy, so that it stays in registers
#pragma GCC unroll 16
    for (int r = 0; r < tile; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) sum[r][v] = value[r][v];
    }
    for (int64_t d = 0; d < depth; ++d) {
      Vector codes[vectors];
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) codes[v] = panel_vector(panel, d, v);
#pragma GCC unroll 16
      for (int r = 0; r < tile; ++r) {
#pragma GCC unroll 16
        for (int v = 0; v < vectors; ++v) add(sum[r][v], codes[v], rows(r, d));
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < tile; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) value[r][v] = sum[r][v];
    }
  }
};

// Calls visit(first, depth) for blocks of features that cover [0, dim), in ascending order. If dim is 0, calls
// visit(0, 0).
template <class Visit>
SOMVAE_ALWAYS_INLINE void for_each_depth(int64_t dim, Visit visit) {
  int64_t first = 0;
  do {
    visit(first, dim - first < kDepth ? dim - first : kDepth);
    first += kDepth;
  } while (first < dim);
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
