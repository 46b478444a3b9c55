// transition_log_prob: finite and right for logits of any size, with gradients both dense and as rows.
#include "backend.h"
#include "harness.h"
#include "oracle.h"
#include "softmax_oracle.h"
#include "transition/transition_log_prob.h"

using namespace somvae;
using namespace somvae::test;

namespace {

#if defined(SOMVAE_SIMT)

template <class T>
void run(const TransitionLogProbArgs<T>& args) {
  transition_log_prob_cuda(args, nullptr);
}
template <class T>
void run(const TransitionLogProbBackwardArgs<T>& args) {
  transition_log_prob_backward_cuda(args, nullptr);
}

#else

template <class T>
void run(const TransitionLogProbArgs<T>& args) {
  in_two_ranges(args.rows, [&](int64_t a, int64_t b) { transition_log_prob_cpu(args, a, b); });
}
template <class T>
void run(const TransitionLogProbBackwardArgs<T>& args) {
  in_two_ranges(args.groups.count, [&](int64_t a, int64_t b) { transition_log_prob_backward_cpu(args, a, b); });
}

#endif

template <class T>
struct Problem {
  int64_t rows, nodes;
  std::vector<T> logits;
  std::vector<int64_t> prev, cur;
  std::string what;

  bool valid(int64_t row) const { return in_range(prev[row]) && in_range(cur[row]); }
  bool in_range(int64_t index) const { return index >= 0 && index < nodes; }
  const T* row_of(int64_t row) const { return logits.data() + prev[row] * nodes; }
};

template <class T>
Problem<T> random_problem(Random& random, int64_t rows, int64_t nodes, double scale, bool invalid) {
  Problem<T> problem = {rows,
                        nodes,
                        random_logits<T>(random, nodes, scale),
                        random_index(random, rows, nodes, invalid),
                        random_index(random, rows, nodes),
                        "rows " + std::to_string(rows) + " nodes " + std::to_string(nodes) + " logits of " +
                            std::to_string(static_cast<int>(scale)) + (invalid ? ", some invalid" : "")};
  return problem;
}

template <class T>
void check_forward(Report& report, const Problem<T>& problem) {
  using C = Compute<T>;
  auto log_prob = poisoned<C>(problem.rows);
  auto log_normalizer = poisoned<double>(problem.rows);
  const Touched touched(problem.prev, problem.nodes);
  run(TransitionLogProbArgs<T>{problem.logits.data(), problem.prev.data(), problem.cur.data(), touched.order.data(),
                               log_prob.data(), log_normalizer.data(), problem.rows, problem.nodes});

  for (int64_t row = 0; row < problem.rows; ++row) {
    const std::string where = problem.what + ", row " + std::to_string(row);
    report.require(problem.valid(row) || std::isnan(log_prob[row]), where + ", log_prob: expected NaN");
    if (!problem.in_range(problem.prev[row])) {
      report.require(std::isnan(log_normalizer[row]), where + ", log_normalizer: expected NaN");
      continue;
    }
    const LogSumExp normalizer(problem.row_of(row), problem.nodes);
    require_near(report, log_normalizer[row], normalizer.value, normalizer.error, where + ", log_normalizer");
    if (!problem.valid(row)) continue;
    const Real want = Real(load(problem.row_of(row)[problem.cur[row]])) - normalizer.value;
    require_near(report, log_prob[row], want, normalizer.error + unit_roundoff<double>() * std::fabs(want),
                 where + ", log_prob");
  }
}

template <class T>
void check_backward(Report& report, Random& random, const Problem<T>& problem) {
  using C = Compute<T>;
  const auto grad = random_values<C>(random, problem.rows);
  std::vector<double> log_normalizer(problem.rows, NAN);
  for (int64_t row = 0; row < problem.rows; ++row) {
    if (problem.in_range(problem.prev[row])) log_normalizer[row] = LogSumExp(problem.row_of(row), problem.nodes).value;
  }
  const Touched touched(problem.prev, problem.nodes);
  std::vector<T> dense(problem.nodes * problem.nodes, store<T>(0));
  auto sparse = unwritten_rows<T>(touched, problem.nodes);
  TransitionLogProbBackwardArgs<T> args = {grad.data(),        problem.logits.data(), problem.prev.data(),
                                           problem.cur.data(), log_normalizer.data(), touched.groups(),
                                           dense.data(),       problem.rows,          problem.nodes,
                                           /*sparse=*/false};
  run(args);
  args.sparse = true;
  args.grad_logits = sparse.data();
  run(args);

  const Real u64 = unit_roundoff<double>();
  std::vector<Sum> want(problem.nodes * problem.nodes);
  for (int64_t row = 0; row < problem.rows; ++row) {
    if (!problem.in_range(problem.prev[row])) continue;  // touches no row
    for (int64_t j = 0; j < problem.nodes; ++j) {
      Sum& sum = want[problem.prev[row] * problem.nodes + j];
      if (!problem.valid(row)) {
        sum.add(NAN, 0);
        continue;
      }
      const Probability p = probability_of(problem.row_of(row)[j], log_normalizer[row]);
      const Real indicator = j == problem.cur[row], g = grad[row];
      sum.add_uncertain(g * indicator, 0);
      sum.add_uncertain(-g * p.value, std::fabs(g) * (p.error + 2 * u64 * (indicator + p.value)));
    }
  }
  check_gradient_of_logits(report, dense, sparse, want, touched, problem.prev, problem.nodes, problem.what);
}

// NaN logits, and rows without a possible transition.
template <class T>
void check_special_logits(Report& report) {
  constexpr int64_t nodes = 131;
  for (const double special : {double(NAN), double(INFINITY), -double(INFINITY)}) {
    std::vector<T> logits(nodes * nodes, store<T>(special));
    for (int64_t j = 0; j < nodes; ++j) logits[j] = store<T>(j == nodes - 1 ? special : 0.25);
    const std::vector<int64_t> prev = {0, 1}, cur = {0, 0};
    auto log_prob = poisoned<Compute<T>>(2);
    auto log_normalizer = poisoned<double>(2);
    run(TransitionLogProbArgs<T>{logits.data(), prev.data(), cur.data(), prev.data(), log_prob.data(),
                                 log_normalizer.data(), 2, nodes});
    const std::string what = "a row with logit " + std::to_string(special);
    if (special < 0) {
      require_near(report, log_prob[0], -std::log(Real(nodes - 1)), nodes * unit_roundoff<Compute<T>>(), what);
      report.require(log_normalizer[1] == special, what + " everywhere: expected log_normalizer -inf");
    } else {
      report.require(std::isnan(log_normalizer[0]) && std::isnan(log_prob[0]), what + ": expected NaN");
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Size size = parse_size(argc, argv);
  Report report;
  Random random(5);
  std::vector<std::pair<int64_t, int64_t>> sizes = {{0, 1}, {1, 1}, {7, 5}, {3, 131}};  // rows, nodes
  if (size != Size::kSmall) {
    sizes.insert(sizes.end(), {{0, 7}, {1, 2}, {130, 3}, {20, 33}, {40, 128}, {13, 300}});
  }
  if (size == Size::kFull) {
    for (const int64_t rows : {2, 65, 257}) {
      for (const int64_t nodes : {2, 31, 32, 64, 129, 257, 600}) sizes.emplace_back(rows, nodes);
    }
  }
  for_each_dtype([&]<class T>() {
    report.group(kBackend + ", transition_log_prob, " + dtype_name<T>());
    for (const auto& [rows, nodes] : sizes) {
      for (const double scale : {1., 1000.}) {
        for (const bool invalid : {false, true}) {
          const auto problem = random_problem<T>(random, rows, nodes, scale, invalid);
          check_forward(report, problem);
          check_backward(report, random, problem);
        }
        auto problem = random_problem<T>(random, rows, nodes, scale, false);
        problem.cur = random_index(random, rows, nodes, true);
        problem.what += ", some cur invalid";
        check_forward(report, problem);
        check_backward(report, random, problem);
      }
    }
    report.group(kBackend + ", transition_log_prob, " + dtype_name<T>() + ", special logits");
    check_special_logits<T>(report);
  });
  return report.finish(launched());
}
