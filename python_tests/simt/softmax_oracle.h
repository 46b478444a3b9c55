// The row softmax that both transition ops are defined by, and what rounding may do to it.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "oracle.h"

namespace somvae::test {

// log sum_j exp(row[j]) and its error in the kernels.
template <class T>
struct LogSumExp {
  Real value, error;

  LogSumExp(const T* row, int64_t units) {
    const Real u = unit_roundoff<Compute<T>>();
    Real largest = -INFINITY;
    for (int64_t j = 0; j < units; ++j) largest = std::max(largest, Real(load(row[j])));
    // In the one-pass form a term is rescaled whenever a larger logit comes, at most once per logit of its thread
    // (of 128); each time an exponential (4 u: two ulp) is taken of a difference. The differences add up to the whole
    // one, and rounding them shifts the exponent by u times it.
    const Real steps = 2 + Real(units) / 128;
    Real sum = 0, weighted = 0;
    for (int64_t j = 0; j < units; ++j) {
      if (std::isinf(Real(load(row[j]))) && load(row[j]) < 0) continue;
      const Real term = std::exp(Real(load(row[j])) - largest);
      sum += term;
      weighted += term * u * (largest - Real(load(row[j])) + 4 * steps);
    }
    value = largest + std::log(sum);
    const Real u64 = unit_roundoff<double>();
    error = weighted / sum + u64 * (units + 4) + 2 * u64 * std::fabs(value) + u64 * std::fabs(largest);
  }
};

// p = exp(logit - log_normalizer), and the absolute error of the kernels', given that of their normalizer: the
// difference is rounded to the type they compute in, the exponential is good to two ulp, and what is not far above the
// smallest normal number may be taken for zero.
struct Probability {
  Real value, error;
};

template <class T>
Probability probability_of(T logit, Real log_normalizer, Real normalizer_error = 0) {
  using C = Compute<T>;
  const Real exponent = Real(load(logit)) - log_normalizer;
  const Real value = std::exp(exponent);
  const Real underflow = 2 * smallest_normal<C>();
  if (value == 0) return {0, underflow};
  const Real of_exponent = (unit_roundoff<C>() + unit_roundoff<double>()) * std::fabs(exponent) + normalizer_error;
  return {value, value * (of_exponent + 4 * unit_roundoff<C>()) + underflow};
}

// A table of logits. Large ones overflow a softmax that does not subtract their maximum; a forbidden transition has
// logit -inf.
template <class T>
std::vector<T> random_logits(Random& random, int64_t units, double scale) {
  auto logits = random_values<T>(random, units * units, scale);
  for (int64_t row = 0; row + 1 < units; row += 3) logits[row * units + row + 1] = store<T>(-INFINITY);
  return logits;
}

}  // namespace somvae::test
