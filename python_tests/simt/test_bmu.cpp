// bmu: every score is the promised chain of multiply-adds, so winners and distances are known to the last bit.
#include <cmath>

#include "harness.h"
#include "oracle.h"
#include "twins.h"

using namespace somvae;
using namespace somvae::test;

namespace {

template <class T>
struct Problem {
  Shape shape;
  std::vector<T> z, codebook;
};

template <class T>
Problem<T> random_problem(Random& random, const Shape& shape) {
  return {shape, random_values<T>(random, shape.rows * shape.dim), random_values<T>(random, shape.units * shape.dim)};
}

// The score as bmu.h defines it.
template <class T>
Compute<T> promised_score(const T* z, const T* code, int64_t dim) {
  Compute<T> score = 0;
  for (int64_t d = 0; d < dim; ++d) {
    const Compute<T> difference = load(z[d]) - load(code[d]);
    score = scores_are_fused() ? std::fma(difference, difference, score) : score + difference * difference;
  }
  return score;
}

// The true distance. In the kernel each term has two roundings (of the difference, squared) besides the additions'.
template <class T>
Sum true_distance(const T* z, const T* code, int64_t dim) {
  const Real u = unit_roundoff<Compute<T>>();
  Sum sum;
  for (int64_t d = 0; d < dim; ++d) {
    const Real difference = Real(load(z[d])) - Real(load(code[d]));
    sum.add(difference * difference, 3 * u);
  }
  return sum;
}

template <class T>
void check_forward(Report& report, const Problem<T>& problem, int k, const std::string& what) {
  using C = Compute<T>;
  const auto [rows, units, dim] = problem.shape;
  std::vector<C> distance;
  std::vector<int64_t> index;
  for (SearchWay way : search_ways()) {
    auto found_distance = poisoned<C>(rows * k);
    auto found_index = poisoned<int64_t>(rows * k);
    run(BmuArgs<T>{problem.z.data(), problem.codebook.data(), found_distance.data(), found_index.data(), rows, units,
                   dim, k},
        way);
    if (distance.empty()) {
      distance = found_distance;
      index = found_index;
    }
    for (int64_t i = 0; i < rows * k; ++i) {
      const bool same = found_index[i] == index[i] && (found_distance[i] == distance[i] ||
                                                       (std::isnan(found_distance[i]) && std::isnan(distance[i])));
      report.require(same, what + ", row " + std::to_string(i / k) + ", winner " + std::to_string(i % k) + ": " +
                               way.name + " has code " + std::to_string(found_index[i]) + " at " +
                               std::to_string(found_distance[i]) + ", not " + std::to_string(index[i]) + " at " +
                               std::to_string(distance[i]));
    }
  }

  for (int64_t row = 0; row < rows; ++row) {
    const T* z = problem.z.data() + row * dim;
    std::vector<std::pair<C, int64_t>> scores;
    Real least = INFINITY;
    for (int64_t unit = 0; unit < units; ++unit) {
      const T* code = problem.codebook.data() + unit * dim;
      const C score = promised_score(z, code, dim);
      if (std::isnan(score)) continue;
      scores.emplace_back(score, unit);
      least = std::min(least, true_distance(z, code, dim).value());
    }
    std::sort(scores.begin(), scores.end());
    for (int n = 0; n < k; ++n) {
      const std::string where = what + ", row " + std::to_string(row) + ", winner " + std::to_string(n);
      const C got = distance[row * k + n];
      const int64_t winner = index[row * k + n];
      if (n >= static_cast<int>(scores.size())) {
        report.require(std::isnan(got) && winner == 0, where + ": expected distance NaN and index 0");
        continue;
      }
      report.require(winner == scores[n].second,
                     where + ": got code " + std::to_string(winner) + ", expected " + std::to_string(scores[n].second));
      report.require(got == scores[n].first,
                     where + ": got distance " + std::to_string(got) + ", expected " + std::to_string(scores[n].first));
      if (n > 0 || winner < 0 || winner >= units || !std::isfinite(got)) continue;
      const Sum sum = true_distance(z, problem.codebook.data() + winner * dim, dim);
      const Real error = sum.error(unit_roundoff<C>());
      require_near(report, got, sum.value(), error, where + ", distance");
      report.require(sum.value() <= least + 2.02L * error, where + ": is not nearest within the bound");
    }
  }
}

template <class T>
void check_backward(Report& report, Random& random, const Problem<T>& problem, int k, const std::string& what) {
  using C = Compute<T>;
  const auto [rows, units, dim] = problem.shape;
  const int64_t pairs = rows * k;
  const auto grad = random_values<C>(random, pairs);
  const auto index = random_index(random, pairs, units);
  const Groups groups = group_by(index, units);
  auto grad_z = poisoned<T>(rows * dim), grad_codebook = poisoned<T>(units * dim);
  auto only_z = grad_z, only_codebook = grad_codebook;
  BmuBackwardArgs<T> args = {grad.data(),
                             problem.z.data(),
                             problem.codebook.data(),
                             index.data(),
                             groups.order.data(),
                             groups.offsets.data(),
                             grad_z.data(),
                             grad_codebook.data(),
                             rows,
                             units,
                             dim,
                             k};
  run(args);
  args.grad_z = only_z.data();
  args.grad_codebook = nullptr;
  run(args);
  args.grad_z = nullptr;
  args.grad_codebook = only_codebook.data();
  run(args);

  const Real u = unit_roundoff<C>();
  std::vector<Sum> want_z(rows * dim), want_codebook(units * dim);
  for (int64_t pair = 0; pair < pairs; ++pair) {
    for (int64_t d = 0; d < dim; ++d) {
      const int64_t at_z = pair / k * dim + d, at_code = index[pair] * dim + d;
      const Real term = 2 * Real(grad[pair]) * (Real(load(problem.z[at_z])) - Real(load(problem.codebook[at_code])));
      want_z[at_z].add(term, 2 * u);  // of the difference and the product
      want_codebook[at_code].add(-term, 2 * u);
    }
  }
  for (size_t i = 0; i < want_z.size(); ++i) {
    require_near(report, grad_z[i], want_z[i], u, what + ", grad_z[" + std::to_string(i) + "]");
    report.require(load(only_z[i]) == load(grad_z[i]), what + ", grad_z alone differs from grad_z with grad_codebook");
  }
  for (size_t i = 0; i < want_codebook.size(); ++i) {
    require_near(report, grad_codebook[i], want_codebook[i], u, what + ", grad_codebook[" + std::to_string(i) + "]");
    report.require(load(only_codebook[i]) == load(grad_codebook[i]),
                   what + ", grad_codebook alone differs from grad_codebook with grad_z");
  }
}

// Data on which a careless search goes wrong.
template <class T>
void check_special_data(Report& report, Random& random, const Shape& shape, int k) {
  const auto [rows, units, dim] = shape;
  Problem<T> ties = random_problem<T>(random, shape);
  for (std::vector<T>* values : {&ties.z, &ties.codebook}) {
    for (T& value : *values) value = store<T>(static_cast<double>(random() % 2));
  }
  check_forward(report, ties, k, "codes of zeros and ones, with many ties");

  Problem<T> equal = random_problem<T>(random, shape);
  for (int64_t i = 0; i < units * dim; ++i) equal.codebook[i] = equal.codebook[i % dim];
  check_forward(report, equal, k, "all codes equal");

  Problem<T> offset = random_problem<T>(random, shape);
  for (std::vector<T>* values : {&offset.z, &offset.codebook}) {
    for (T& value : *values) value = store<T>(load(value) + 1e4);
  }
  check_forward(report, offset, k, "data and codes near 10000");

  for (const double special : {double(NAN), double(INFINITY), -double(INFINITY)}) {
    const std::string name = std::to_string(special);
    Problem<T> bad_row = random_problem<T>(random, shape);
    bad_row.z[(rows - 1) * dim + dim - 1] = store<T>(special);
    check_forward(report, bad_row, k, name + " in the last row");

    Problem<T> bad_code = random_problem<T>(random, shape);
    bad_code.codebook[0] = store<T>(special);
    check_forward(report, bad_code, k, name + " in code 0");

    Problem<T> bad_codes = random_problem<T>(random, shape);
    for (int64_t unit = 0; unit < units; ++unit) bad_codes.codebook[unit * dim] = store<T>(special);
    check_forward(report, bad_codes, k, name + " in every code");

    for (int64_t d = 0; d < dim; ++d) bad_codes.codebook[(units - 1) * dim + d] = store<T>(0.5);
    check_forward(report, bad_codes, k, name + " in every code but the last");
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Size size = parse_size(argc, argv);
  Report report;
  Random random(1);
  for_each_dtype([&]<class T>() {
    for (const int k : {1, 2}) {
      const std::string name = kTwin + ", bmu, " + dtype_name<T>() + ", k = " + std::to_string(k);
      report.group(name + ", random data");
      for (const Shape& shape : shapes(size)) {
        if (shape.units < k) continue;
        const Problem<T> problem = random_problem<T>(random, shape);
        check_forward(report, problem, k, describe(shape));
        check_backward(report, random, problem, k, describe(shape));
      }
      report.group(name + ", special data");
      check_special_data<T>(report, random, {3, 5, 2}, k);
      if (size != Size::kSmall) check_special_data<T>(report, random, {65, 67, 17}, k);
    }
  });
  return report.finish(launched());
}
