// Sums rows of one node in double, in ascending order, a block of features at a time. Included once per
// instruction level by kernel files (see cpu/foreach_level.h), so it has no include guard and includes nothing.

constexpr int kFeatureBlock = 64;

// Calls visit(d, n) for blocks of features [d, d + n) that cover [0, dim). In full blocks n is known to the compiler.
template <class Visit>
SOMVAE_ALWAYS_INLINE void for_each_feature_block(int64_t dim, Visit visit) {
  int64_t d = 0;
  for (; d + kFeatureBlock <= dim; d += kFeatureBlock) visit(d, std::integral_constant<int, kFeatureBlock>());
  if (d < dim) visit(d, static_cast<int>(dim - d));
}

struct FeatureSum {
  double value[kFeatureBlock] = {};

  template <class T, class Count>
  SOMVAE_ALWAYS_INLINE void add(const T* x, Count n) {
    for (int i = 0; i < n; ++i) value[i] += double(load(x[i]));
  }

  // += weight * (center - x)
  template <class T, class Count>
  SOMVAE_ALWAYS_INLINE void add_difference(double weight, const T* center, const T* x, Count n) {
    for (int i = 0; i < n; ++i) value[i] += weight * (double(load(center[i])) - double(load(x[i])));
  }

  template <class T, class Count>
  SOMVAE_ALWAYS_INLINE void write(T* out, Count n) const {
    for (int i = 0; i < n; ++i) out[i] = store<T>(value[i]);
  }
};
