// The softmax of one row of logits, 16 at a time. Included once per instruction level by kernel files (see
// cpu/foreach_level.h) after cpu/exponential.h, so it has no include guard and includes nothing.

// Logits [j, j + 16) of a row; -inf, whose probability is 0, past its end.
template <class T>
SOMVAE_ALWAYS_INLINE void load_logits(const T* row, int64_t j, int64_t nodes, Compute<T> (&out)[kLanes]) {
  if (j + kLanes <= nodes) {
    for (int l = 0; l < kLanes; ++l) out[l] = load(row[j + l]);
  } else {
    for (int l = 0; l < kLanes; ++l) out[l] = j + l < nodes ? Compute<T>(load(row[j + l])) : -INFINITY;
  }
}

// The running sum_j exp(l_j - shift) of a row of logits. The shift follows the largest logit with some slack, so it
// seldom changes.
template <class C>
struct RunningSoftmax {
  static constexpr C slack = 16;  // exponentials reach e^16

  C shift = -INFINITY;
  double sum[kLanes] = {};

  // Adds 16 logits and replaces them with exp(logit - shift). Calls `rescale(factor)` before the shift changes, so the
  // caller can multiply its own sums by `factor`.
  template <class Rescale>
  SOMVAE_ALWAYS_INLINE void add(C (&logit)[kLanes], Rescale rescale) {
    int above = 0;
    for (int l = 0; l < kLanes; ++l) above += logit[l] > shift + slack;
    if (above) [[unlikely]] {
      C largest = shift;
      for (int l = 0; l < kLanes; ++l) largest = logit[l] > largest ? logit[l] : largest;
      const double factor = std::exp(double(shift) - double(largest));
      for (int l = 0; l < kLanes; ++l) sum[l] *= factor;
      rescale(factor);
      shift = largest;
    }
    const C subtracted = shift == C(-INFINITY) ? C(0) : shift;  // -inf - -inf would be NaN
    for (int l = 0; l < kLanes; ++l) logit[l] -= subtracted;
    exponentials(logit);
    for (int l = 0; l < kLanes; ++l) sum[l] += double(logit[l]);
  }

  double total() const {
    double total = 0;
    for (const double part : sum) total += part;
    return total;
  }
  double log_normalizer() const { return double(shift) + std::log(total()); }
};

// log sum_j exp(row[j]): finite for finite logits of any size; -inf if all are -inf, NaN if one is NaN or +inf.
template <class T>
inline double log_sum_exp(const T* row, int64_t nodes) {
  RunningSoftmax<Compute<T>> softmax;
  for (int64_t j = 0; j < nodes; j += kLanes) {
    Compute<T> logit[kLanes];
    load_logits(row, j, nodes, logit);
    softmax.add(logit, [](double) {});
  }
  return softmax.log_normalizer();
}

// Probabilities of nodes [j, j + 16), 0 past the end of the row.
template <class T>
SOMVAE_ALWAYS_INLINE void probabilities(const T* row, int64_t j, int64_t nodes, double log_normalizer,
                                        Compute<T> (&out)[kLanes]) {
  load_logits(row, j, nodes, out);
  for (Compute<T>& value : out) value = static_cast<Compute<T>>(double(value) - log_normalizer);
  exponentials(out);
}
