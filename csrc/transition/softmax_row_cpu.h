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

// log sum_j exp(row[j]), finite for finite logits of any size; -inf if all are -inf, NaN if one is NaN or +inf.
template <class T>
inline double log_sum_exp(const T* row, int64_t units) {
  using C = Compute<T>;
  C logit[kLanes], largest_in[kLanes];
  for (C& largest : largest_in) largest = -INFINITY;
  for (int64_t j = 0; j < units; j += kLanes) {
    load_logits(row, j, units, logit);
    for (int l = 0; l < kLanes; ++l) largest_in[l] = logit[l] > largest_in[l] ? logit[l] : largest_in[l];
  }
  C largest = -INFINITY;
  for (const C candidate : largest_in) largest = candidate > largest ? candidate : largest;
  const C shift = largest == C(-INFINITY) ? C(0) : largest;  // -inf - -inf would be NaN

  double sum_of[kLanes] = {};
  for (int64_t j = 0; j < units; j += kLanes) {
    load_logits(row, j, units, logit);
    for (C& value : logit) value -= shift;
    exponentials(logit);
    for (int l = 0; l < kLanes; ++l) sum_of[l] += logit[l];
  }
  double sum = 0;
  for (const double part : sum_of) sum += part;
  return double(shift) + std::log(sum);
}

// Probabilities of units [j, j + 16), 0 past the end of the row.
template <class T>
inline __attribute__((always_inline)) void probabilities(const T* row, int64_t j, int64_t units, double log_normalizer,
                                                         Compute<T> (&out)[kLanes]) {
  load_logits(row, j, units, out);
  for (Compute<T>& value : out) value = static_cast<Compute<T>>(double(value) - log_normalizer);
  exponentials(out);
}

// Writes rows [first, last) of a gradient of the logits. For each row that has members, `fill(group, logits, sum)` puts
// d loss / d logits[j] into sum[j]; rows without members are zeros.
template <class T, class Args, class Fill>
void for_each_gradient_row(const Args& args, int64_t first, int64_t last, Fill fill) {
  double* sum = new double[args.units];
  for (int64_t r = first; r < last; ++r) {
    const GradientRow group = gradient_row(args, r);
    T* out = args.grad_logits + r * args.units;
    if (group.count == 0 || !in_range(group.unit, args.units)) {
      for (int64_t j = 0; j < args.units; ++j) out[j] = store<T>(group.count == 0 ? 0.0 : NAN);
      continue;
    }
    fill(group, args.logits + group.unit * args.units, sum);
    for (int64_t j = 0; j < args.units; ++j) out[j] = store<T>(sum[j]);
  }
  delete[] sum;
}
