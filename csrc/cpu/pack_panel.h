// Packs one panel of codes. Included once per instruction level by kernel files (see cpu/foreach_level.h) after
// cpu/vector.h, so it has no include guard and includes nothing.

// A square matrix that transposes in place. Each step swaps bit `step` of the row index with that of the column index.
template <class C, int side = Simd<C>::lanes>
struct Square {
  typedef C Vector __attribute__((vector_size(side * sizeof(C))));
  Vector row[side];

  template <int step, int... lane>
  SOMVAE_ALWAYS_INLINE void exchange(std::integer_sequence<int, lane...>) {
#pragma GCC unroll 16
    for (int r = 0; r < side; ++r) {
      if (r & step) continue;
      const Vector a = row[r], b = row[r | step];
      row[r] = __builtin_shufflevector(a, b, ((lane & step) ? side + lane - step : lane)...);
      row[r | step] = __builtin_shufflevector(a, b, ((lane & step) ? side + lane : lane + step)...);
    }
  }

  template <int step = 1>
  SOMVAE_ALWAYS_INLINE void transpose() {
    if constexpr (step < side) {
      exchange<step>(std::make_integer_sequence<int, side>());
      transpose<2 * step>();
    }
  }
};

// Packs the 16 codes at these addresses into out[d][code]. A null address is a missing code: its features become NaN.
template <class T, class C>
SOMVAE_ALWAYS_INLINE void pack_codes(const T* const (&codes)[kPanelCodes], int64_t dim, C* out) {
  constexpr int side = Simd<C>::lanes;
  bool complete = true;
  for (const T* code : codes) complete = complete && code != nullptr;
  int64_t d = 0;
  for (; complete && d + side <= dim; d += side) {
    for (int first = 0; first < kPanelCodes; first += side) {
      Square<C> square;
#pragma GCC unroll 16
      for (int r = 0; r < side; ++r) {
        C values[side];
        for (int i = 0; i < side; ++i) values[i] = load(codes[first + r][d + i]);
        __builtin_memcpy(&square.row[r], values, sizeof values);
      }
      square.transpose();
#pragma GCC unroll 16
      for (int r = 0; r < side; ++r) {
        __builtin_memcpy(out + (d + r) * kPanelCodes + first, &square.row[r], sizeof square.row[r]);
      }
    }
  }
  for (; d < dim; ++d) {
    for (int code = 0; code < kPanelCodes; ++code) {
      out[d * kPanelCodes + code] = codes[code] != nullptr ? C(load(codes[code][d])) : C(NAN);
    }
  }
}

// Packs codes [16 panel, 16 panel + 16) of the codebook, converted to C.
template <class T, class C>
void pack_panel(const T* codebook, int64_t code_count, int64_t dim, int64_t panel, C* out) {
  const T* codes[kPanelCodes];
  for (int code = 0; code < kPanelCodes; ++code) {
    const int64_t index = panel * kPanelCodes + code;
    codes[code] = index < code_count ? codebook + index * dim : nullptr;
  }
  pack_codes(codes, dim, out);
}
