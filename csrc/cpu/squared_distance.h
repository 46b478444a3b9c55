// |a - b|^2 in a fixed order: sixteen partial sums over d mod 16, then a tree. Included once per instruction level by
// kernel files (see cpu/foreach_level.h), so it has no include guard and includes nothing.

struct ZeroCode {};  // the code of an absent neighbor
inline float feature(ZeroCode, int64_t) { return 0.0f; }
template <class T>
inline Compute<T> feature(const T* code, int64_t d) {
  return load(code[d]);
}

template <class T, class Code>
inline Compute<T> squared_distance(const T* z, Code code, int64_t dim) {
  constexpr int lanes = 16;
  Compute<T> sum[lanes] = {};
  int64_t d = 0;
  for (; d + lanes <= dim; d += lanes) {
    for (int l = 0; l < lanes; ++l) {
      const Compute<T> difference = load(z[d + l]) - Compute<T>(feature(code, d + l));
      sum[l] += difference * difference;
    }
  }
  for (int l = 0; d + l < dim; ++l) {
    const Compute<T> difference = load(z[d + l]) - Compute<T>(feature(code, d + l));
    sum[l] += difference * difference;
  }
  for (int half = lanes / 2; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) sum[l] += sum[l + half];
  }
  return sum[0];
}
