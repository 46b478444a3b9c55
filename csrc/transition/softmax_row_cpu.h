// The softmax of one row of logits, 16 at a time. Included once per instruction level by kernel files (see
// cpu/foreach_level.h) after cpu/exponential.h, so it has no include guard and includes nothing.

// Logits [j, j + 16) of a row; -inf, whose probability is 0, past its end.
template <class T>
inline __attribute__((always_inline)) void load_logits(const T* row, int64_t j, int64_t units,
                                                       Compute<T> (&out)[kLanes]) {
  if (j + kLanes <= units) {
    for (int l = 0; l < kLanes; ++l) out[l] = load(row[j + l]);
  } else {
    for (int l = 0; l < kLanes; ++l) out[l] = j + l < units ? Compute<T>(load(row[j + l])) : -INFINITY;
  }
}

// sum_j exp(l_j) of a row of logits, and sums of it times something, as they come: in 16 lanes, each relative to the
// largest logit that it has seen.
template <class C>
struct RunningSoftmax {
  C largest[kLanes];
  double sum[kLanes];

  RunningSoftmax() {
    for (int l = 0; l < kLanes; ++l) {
      largest[l] = -INFINITY;
      sum[l] = 0;
    }
  }

  // Takes 16 logits, which become their exponentials. `rescale(factor)` is called, seldom, before the lanes' scale
  // changes: sums that others keep must be multiplied by `factor`.
  template <class Rescale>
  inline __attribute__((always_inline)) void add(C (&logit)[kLanes], Rescale rescale) {
    int raised = 0;
    for (int l = 0; l < kLanes; ++l) raised += logit[l] > largest[l];
    if (raised) {
      C factor[kLanes];
      for (int l = 0; l < kLanes; ++l) {
        const C next = logit[l] > largest[l] ? logit[l] : largest[l];
        factor[l] = next > largest[l] ? largest[l] - next : C(0);  // not -inf - -inf
        largest[l] = next;
      }
      exponentials(factor);
      for (int l = 0; l < kLanes; ++l) sum[l] *= double(factor[l]);
      rescale(factor);
    }
    for (int l = 0; l < kLanes; ++l) logit[l] -= largest[l] == C(-INFINITY) ? C(0) : largest[l];
    exponentials(logit);
    for (int l = 0; l < kLanes; ++l) sum[l] += double(logit[l]);
  }

  // The lanes brought to one scale: their largest logit, the sum, and the factor of each lane.
  struct Joined {
    double largest, sum, factor[kLanes];
    double log_normalizer() const { return largest + std::log(sum); }
  };
  Joined join() const {
    Joined joined{-INFINITY, 0, {}};
    for (const C candidate : largest) joined.largest = std::max(joined.largest, double(candidate));
    for (int l = 0; l < kLanes; ++l) {
      // A lane without a finite logit has the sum 0, or NaN to keep.
      joined.factor[l] = double(largest[l]) == joined.largest ? 1.0 : std::exp(double(largest[l]) - joined.largest);
      joined.sum += sum[l] * joined.factor[l];
    }
    return joined;
  }
};

// log sum_j exp(row[j]), finite for finite logits of any size; -inf if all are -inf, NaN if one is NaN or +inf.
template <class T>
inline double log_sum_exp(const T* row, int64_t units) {
  RunningSoftmax<Compute<T>> softmax;
  for (int64_t j = 0; j < units; j += kLanes) {
    Compute<T> logit[kLanes];
    load_logits(row, j, units, logit);
    softmax.add(logit, [](const auto&) {});
  }
  return softmax.join().log_normalizer();
}

// Probabilities of units [j, j + 16), 0 past the end of the row.
template <class T>
inline __attribute__((always_inline)) void probabilities(const T* row, int64_t j, int64_t units, double log_normalizer,
                                                         Compute<T> (&out)[kLanes]) {
  load_logits(row, j, units, out);
  for (Compute<T>& value : out) value = static_cast<Compute<T>>(double(value) - log_normalizer);
  exponentials(out);
}
