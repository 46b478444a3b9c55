// The row softmax that defines both transition ops, with bounds on its rounding.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "backend.h"
#include "oracle.h"
#include "transition/touched_groups.h"

namespace somvae::test {

// log sum_j exp(row[j]) and its error in the kernels.
template <class T>
struct LogSumExp {
  Real value, error;
  Real largest;  // logit
  Real steps;    // the number of times that a term may be rescaled, plus two

  LogSumExp(const T* row, int64_t nodes) {
    largest = -INFINITY;
    for (int64_t j = 0; j < nodes; ++j) largest = std::max(largest, Real(load(row[j])));
    steps = 3 + Real(nodes) / 16;
    Real sum = 0, weighted = 0;
    for (int64_t j = 0; j < nodes; ++j) {
      if (std::isinf(Real(load(row[j]))) && load(row[j]) < 0) continue;
      const Real term = std::exp(Real(load(row[j])) - largest);
      sum += term;
      weighted += term * term_error(row[j]);
    }
    value = largest + std::log(sum);
    const Real u64 = unit_roundoff<double>();
    error = weighted / sum + u64 * (nodes + 4) + 2 * u64 * std::fabs(value) + u64 * std::fabs(largest);
  }

  // Relative error of a logit's term in the sum. In the one-pass form, a term is rescaled whenever a larger logit
  // comes: on the CPU at most once per 16 logits, on CUDA at most once per logit of its thread, and at least 16 threads
  // share a row. Each time, an exponential of a difference is taken, which is good to two ulp (4 u). The differences
  // add up to the whole difference, and rounding them shifts the exponent by u times that. On the CPU the shift stays
  // up to 16 below the largest logit, so differences may be larger by as much, and rescaling is done in double.
  Real term_error(T logit) const {
    const Real u = unit_roundoff<Compute<T>>(), u64 = unit_roundoff<double>();
    const Real difference = largest - Real(load(logit));
    if (kShiftHasSlack) return u * (difference + 17 + 4) + u64 * (difference + 17 + 4 * steps);
    return u * (difference + 4 * steps);
  }
};

// p = exp(logit - log_normalizer), and a bound on the absolute error of the kernels' p, given the error of their
// normalizer: the difference is rounded to the compute type, the exponential is good to two ulp, and a result not far
// above the smallest normal number may become zero.
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

// The rows of the batch grouped by the row of the table that they share, as tensor/touched_rows.h defines them: a node
// out of range has a group too, with a valid row of the table in its place. There are as many groups as rows; the last
// ones may be empty.
struct Touched {
  std::vector<int64_t> node, order, offsets;
  int64_t count = 0;  // of groups that are not empty

  Touched(const std::vector<int64_t>& index, int64_t nodes) : node(index.size()), order(index.size()) {
    const int64_t rows = index.size();
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return index[a] < index[b]; });
    for (int64_t place = 0; place < rows; ++place) {
      if (place > 0 && index[order[place]] == index[order[place - 1]]) continue;
      node[count++] = std::clamp<int64_t>(index[order[place]], 0, nodes - 1);
      offsets.push_back(place);
    }
    offsets.resize(rows + 1, rows);
    for (int64_t group = count; group < rows; ++group) node[group] = node[count - 1];
  }

  TouchedGroups groups() const { return {node.data(), order.data(), offsets.data(), int64_t(node.size())}; }
};

// Rows of a sparse gradient before a kernel writes them: only the CUDA kernels write those of empty groups.
template <class T>
std::vector<T> unwritten_rows(const Touched& touched, int64_t nodes) {
  auto rows = poisoned<T>(touched.node.size() * nodes);
  if (!kWritesEmptyGroups) std::fill(rows.begin() + touched.count * nodes, rows.end(), store<T>(0));
  return rows;
}

// Checks both layouts of a gradient of the logits against `want`, which has all rows. The row of an invalid node is NaN
// in the sparse layout; the dense one has no such row.
template <class T>
void check_gradient_of_logits(Report& report, const std::vector<T>& dense, const std::vector<T>& sparse,
                              const std::vector<Sum>& want, const Touched& touched, const std::vector<int64_t>& prev,
                              int64_t nodes, const std::string& what) {
  const Real u64 = unit_roundoff<double>();
  for (size_t i = 0; i < want.size(); ++i) {
    require_near(report, dense[i], want[i], u64, what + ", dense gradient[" + std::to_string(i) + "]");
  }
  for (size_t group = 0; group < touched.node.size(); ++group) {
    const std::string where = what + ", sparse gradient, group " + std::to_string(group);
    const bool empty = int64_t(group) >= touched.count;
    const int64_t node = empty ? 0 : prev[touched.order[touched.offsets[group]]];
    for (int64_t j = 0; j < nodes; ++j) {
      const T got = sparse[group * nodes + j];
      if (empty) {
        report.require(load(got) == 0, where + ": expected zeros, since it has no rows");
      } else if (node < 0 || node >= nodes) {
        report.require(std::isnan(load(got)), where + ": expected NaN");
      } else {
        report.require(memcmp(&got, &dense[node * nodes + j], sizeof got) == 0 ||
                           (std::isnan(load(got)) && std::isnan(load(dense[node * nodes + j]))),
                       where + ": expected the bits of the dense gradient");
      }
    }
  }
}

// A table of logits. Large ones overflow a softmax that does not subtract their maximum; a forbidden transition has
// logit -inf.
template <class T>
std::vector<T> random_logits(Random& random, int64_t nodes, double scale) {
  auto logits = random_values<T>(random, nodes * nodes, scale);
  for (int64_t row = 0; row + 1 < nodes; row += 3) logits[row * nodes + row + 1] = store<T>(-INFINITY);
  return logits;
}

}  // namespace somvae::test
