// expected_distance: the expectation and its three gradients, that of the logits dense and as rows.
#include "harness.h"
#include "oracle.h"
#include "softmax_oracle.h"
#include "twins.h"

using namespace somvae;
using namespace somvae::test;

namespace {

template <class T>
struct Problem {
  Shape shape;
  std::vector<T> logits, z, codebook;
  std::vector<int64_t> prev;
  std::string what;

  bool valid(int64_t row) const { return prev[row] >= 0 && prev[row] < shape.units; }
  const T* logits_of(int64_t row) const { return logits.data() + prev[row] * shape.units; }
  Real difference(int64_t row, int64_t unit, int64_t d) const {
    return Real(load(z[row * shape.dim + d])) - Real(load(codebook[unit * shape.dim + d]));
  }
  Real distance(int64_t row, int64_t unit) const {
    Real sum = 0;
    for (int64_t d = 0; d < shape.dim; ++d) sum += difference(row, unit, d) * difference(row, unit, d);
    return sum;
  }
  // Of a distance: the difference (twice), the square, the additions.
  Real distance_error() const { return (shape.dim + 3) * unit_roundoff<Compute<T>>(); }
};

template <class T>
Problem<T> random_problem(Random& random, const Shape& shape, double scale, bool invalid) {
  return {
      shape,
      random_logits<T>(random, shape.units, scale),
      random_values<T>(random, shape.rows * shape.dim),
      random_values<T>(random, shape.units * shape.dim),
      random_index(random, shape.rows, shape.units, invalid),
      describe(shape) + ", logits of " + std::to_string(static_cast<int>(scale)) + (invalid ? ", some invalid" : "")};
}

template <class T>
struct Saved {
  std::vector<Compute<T>> expectation;
  std::vector<double> log_normalizer;
};

// Checks the forward pass; returns what it must have saved, as the input of the backward pass.
template <class T>
Saved<T> check_forward(Report& report, const Problem<T>& problem) {
  using C = Compute<T>;
  const auto [rows, units, dim] = problem.shape;
  auto expectation = poisoned<C>(rows);
  auto log_normalizer = poisoned<double>(rows);
  run(ExpectedDistanceArgs<T>{problem.logits.data(), problem.prev.data(), problem.z.data(), problem.codebook.data(),
                              expectation.data(), log_normalizer.data(), rows, units, dim});

  Saved<T> saved = {std::vector<C>(rows, C(NAN)), std::vector<double>(rows, NAN)};
  for (int64_t row = 0; row < rows; ++row) {
    const std::string where = problem.what + ", row " + std::to_string(row);
    if (!problem.valid(row)) {
      report.require(std::isnan(expectation[row]), where + ": expected NaN");
      continue;
    }
    const LogSumExp normalizer(problem.logits_of(row), units);
    Sum want;
    for (int64_t unit = 0; unit < units; ++unit) {
      const Probability p = probability_of(problem.logits_of(row)[unit], normalizer.value, normalizer.error);
      const Real distance = problem.distance(row, unit);
      want.add_uncertain(p.value * distance, (p.error + p.value * problem.distance_error()) * distance);
    }
    require_near(report, expectation[row], want, unit_roundoff<double>(), where + ", expectation");
    require_near(report, log_normalizer[row], normalizer.value, normalizer.error, where + ", log_normalizer");
    saved.expectation[row] = static_cast<C>(want.value());
    saved.log_normalizer[row] = static_cast<double>(normalizer.value);
  }
  return saved;
}

template <class T>
void check_backward(Report& report, Random& random, const Problem<T>& problem, const Saved<T>& saved) {
  using C = Compute<T>;
  const auto [rows, units, dim] = problem.shape;
  const auto grad = random_values<C>(random, rows);
  const Groups groups = group_by(problem.prev, units);
  auto dense = poisoned<T>(units * units), sparse = poisoned<T>(rows * units);
  auto grad_z = poisoned<T>(rows * dim), grad_codebook = poisoned<T>(units * dim);
  ExpectedDistanceBackwardArgs<T> args = {grad.data(),
                                          problem.logits.data(),
                                          problem.prev.data(),
                                          problem.z.data(),
                                          problem.codebook.data(),
                                          saved.expectation.data(),
                                          saved.log_normalizer.data(),
                                          groups.order.data(),
                                          groups.offsets.data(),
                                          dense.data(),
                                          nullptr,
                                          nullptr,
                                          rows,
                                          units,
                                          dim};
  run(args);
  args.order = args.offsets = nullptr;
  args.grad_logits = sparse.data();
  args.grad_z = grad_z.data();
  run(args);
  args.grad_logits = args.grad_z = nullptr;
  args.grad_codebook = grad_codebook.data();
  run(args);

  const Real u64 = unit_roundoff<double>();
  std::vector<Sum> want_dense(units * units), want_codebook(units * dim);
  for (int64_t row = 0; row < rows; ++row) {
    const std::string where = problem.what + ", row " + std::to_string(row);
    std::vector<Sum> want_z(dim);
    for (int64_t unit = 0; unit < units; ++unit) {
      const T got = sparse[row * units + unit];
      if (!problem.valid(row)) {
        report.require(std::isnan(load(got)), where + ", sparse gradient of the logits: expected NaN");
        continue;
      }
      const Probability p = probability_of(problem.logits_of(row)[unit], saved.log_normalizer[row]);
      const Real g = grad[row], distance = problem.distance(row, unit), expectation = saved.expectation[row];
      const Real value = g * p.value * (distance - expectation);
      // Three more roundings in double: the difference, the two products.
      const Real error =
          std::fabs(g) * (p.value * distance * problem.distance_error() + p.error * std::fabs(distance - expectation)) +
          3 * u64 * std::fabs(value);
      require_near(report, got, value, error, where + ", sparse gradient of the logits");
      want_dense[problem.prev[row] * units + unit].add_uncertain(value, error);
      for (int64_t d = 0; d < dim; ++d) {
        const Real weight = 2 * g * problem.difference(row, unit, d), term = weight * p.value;
        const Real term_error = std::fabs(weight) * p.error + 3 * u64 * std::fabs(term);
        want_z[d].add_uncertain(term, term_error);
        want_codebook[unit * dim + d].add_uncertain(-term, term_error);
      }
    }
    for (int64_t d = 0; d < dim; ++d) {
      if (problem.valid(row)) {
        require_near(report, grad_z[row * dim + d], want_z[d], u64, where + ", grad_z");
      } else {
        report.require(std::isnan(load(grad_z[row * dim + d])), where + ", grad_z: expected NaN");
      }
    }
  }
  for (size_t i = 0; i < want_dense.size(); ++i) {
    require_near(report, dense[i], want_dense[i], u64, problem.what + ", dense gradient[" + std::to_string(i) + "]");
  }
  for (size_t i = 0; i < want_codebook.size(); ++i) {
    require_near(report, grad_codebook[i], want_codebook[i], u64,
                 problem.what + ", grad_codebook[" + std::to_string(i) + "]");
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Size size = parse_size(argc, argv);
  Report report;
  Random random(6);
  for_each_dtype([&]<class T>() {
    report.group(kTwin + ", expected_distance, " + dtype_name<T>());
    for (const Shape& shape : shapes(size)) {
      for (const double scale : {1., 1000.}) {
        for (const bool invalid : {false, true}) {
          const auto problem = random_problem<T>(random, shape, scale, invalid);
          const auto saved = check_forward(report, problem);
          check_backward(report, random, problem, saved);
        }
      }
    }
  });
  return report.finish(launched());
}
