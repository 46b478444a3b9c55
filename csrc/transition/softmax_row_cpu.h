// The softmax of one row of logits. Included once per instruction level by kernel files (see cpu/foreach_level.h), so
// it has no include guard and includes nothing.

// log sum_j exp(row[j]), finite for finite logits of any size; -inf if all are -inf, NaN if one is NaN or +inf.
template <class T>
inline double log_sum_exp(const T* row, int64_t units) {
  using C = Compute<T>;
  C largest = -INFINITY;
  for (int64_t j = 0; j < units; ++j) {
    const C logit = load(row[j]);
    largest = logit > largest ? logit : largest;
  }
  const C shift = largest == C(-INFINITY) ? C(0) : largest;  // exp(-inf - -inf) would be NaN
  double sum = 0;
  for (int64_t j = 0; j < units; ++j) sum += std::exp(load(row[j]) - shift);
  return double(shift) + std::log(sum);
}

template <class T>
inline Compute<T> probability(T logit, double log_normalizer) {
  return std::exp(static_cast<Compute<T>>(double(load(logit)) - log_normalizer));
}
