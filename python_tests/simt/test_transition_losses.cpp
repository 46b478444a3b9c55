// transition_losses: both losses and their three gradients, the logits' gradient both dense and as rows.
#include "backend.h"
#include "cpu/codebook_panels.h"
#include "harness.h"
#include "oracle.h"
#include "softmax_oracle.h"
#include "transition/transition_losses.h"

using namespace somvae;
using namespace somvae::test;

namespace {

#if defined(SOMVAE_SIMT)

template <class T>
void run(const TransitionLossesArgs<T>& args) {
  with_workspace(transition_losses_cuda_workspace_bytes(args),
                 [&](void* workspace) { transition_losses_cuda(args, workspace, nullptr); });
}
template <class T>
void run(const TransitionLossesBackwardArgs<T>& args) {
  with_workspace(transition_losses_backward_cuda_workspace_bytes(args),
                 [&](void* workspace) { transition_losses_backward_cuda(args, workspace, nullptr); });
}

#else

template <class T>
std::vector<Compute<T>> packed_codebook(const T* codebook, int64_t codes, int64_t dim) {
  const int64_t panels = panel_count(codes);
  std::vector<Compute<T>> packed(panels * kPanelCodes * dim);
  in_two_ranges(panels, [&](int64_t a, int64_t b) { pack_panels_cpu(codebook, codes, dim, packed.data(), a, b); });
  return packed;
}
template <class T>
void run(const TransitionLossesArgs<T>& args) {
  const auto packed = packed_codebook(args.codebook, args.nodes, args.dim);
  in_two_ranges(args.rows, [&](int64_t a, int64_t b) { transition_losses_cpu(args, packed.data(), a, b); });
}
template <class T>
void run(const TransitionLossesBackwardArgs<T>& args) {
  const int64_t groups = args.groups.count, pitch = (args.dim + kPanelCodes - 1) / kPanelCodes * kPanelCodes;
  const int64_t chunks = (args.nodes + kChunkStep - 1) / kChunkStep;
  std::vector<double> center(args.dim, NAN), weight(groups, NAN), mean(args.grad_z ? chunks * groups * pitch : 0, NAN);
  std::vector<Compute<T>> pull(groups * pitch, NAN);
  const TransitionBackwardWorkspace<Compute<T>> workspace{center.data(), pull.data(), weight.data(),
                                                          mean.data(),   pitch,       chunks};
  transition_losses_backward_prepare_cpu(args, workspace);
  in_two_ranges(chunks, [&](int64_t a, int64_t b) { transition_losses_backward_codes_cpu(args, workspace, a, b); });
  if (args.grad_z) {
    in_two_ranges(groups, [&](int64_t a, int64_t b) { transition_losses_backward_z_cpu(args, workspace, a, b); });
  }
}

#endif

// The number of products over codes, or groups of rows, that the kernels add in the compute type before they continue
// in double.
constexpr int64_t kProducts = 256;

template <class T>
struct Problem {
  Shape shape;
  std::vector<T> logits, z, codebook;
  std::vector<int64_t> prev, cur;
  std::string what;

  bool in_range(int64_t index) const { return index >= 0 && index < shape.codes; }
  const T* logits_of(int64_t row) const { return logits.data() + prev[row] * shape.codes; }
  Real row(int64_t n, int64_t d) const { return load(z[n * shape.dim + d]); }
  Real code(int64_t node, int64_t d) const { return load(codebook[node * shape.dim + d]); }
  Real distance(int64_t n, int64_t node) const {
    Real sum = 0;
    for (int64_t d = 0; d < shape.dim; ++d) sum += (row(n, d) - code(node, d)) * (row(n, d) - code(node, d));
    return sum;
  }
  // Roundings of a distance: the difference (twice), the square, the additions.
  Real distance_error() const { return (shape.dim + 3) * unit_roundoff<Compute<T>>(); }
};

// `distinct` is the number of rows of the table that the batch may touch.
template <class T>
Problem<T> random_problem(Random& random, const Shape& shape, double scale, double offset, int64_t distinct) {
  Problem<T> problem = {shape,
                        random_logits<T>(random, shape.codes, scale),
                        random_values<T>(random, shape.rows * shape.dim),
                        random_values<T>(random, shape.codes * shape.dim),
                        random_index(random, shape.rows, std::min(distinct, shape.codes)),
                        random_index(random, shape.rows, shape.codes),
                        describe(shape) + ", logits of " + std::to_string(static_cast<int>(scale)) + ", offset " +
                            std::to_string(static_cast<int>(offset))};
  for (auto* values : {&problem.z, &problem.codebook}) {
    for (T& value : *values) value = store<T>(load(value) + offset);
  }
  return problem;
}

template <class T>
struct Saved {
  std::vector<Compute<T>> expectation;
  std::vector<double> log_normalizer;
};

// Checks the forward pass. Returns the reference's values of what it saves for the backward pass.
template <class T>
Saved<T> check_forward(Report& report, const Problem<T>& problem) {
  using C = Compute<T>;
  const auto [rows, nodes, dim] = problem.shape;
  auto log_prob = poisoned<C>(rows), expectation = poisoned<C>(rows);
  auto log_normalizer = poisoned<double>(rows);
  const Touched touched(problem.prev, nodes);
  run(TransitionLossesArgs<T>{problem.logits.data(), problem.prev.data(), problem.cur.data(), problem.z.data(),
                              problem.codebook.data(), touched.order.data(), log_prob.data(), expectation.data(),
                              log_normalizer.data(), rows, nodes, dim});

  const Real u64 = unit_roundoff<double>();
  Saved<T> saved = {std::vector<C>(rows, C(NAN)), std::vector<double>(rows, NAN)};
  for (int64_t row = 0; row < rows; ++row) {
    const std::string where = problem.what + ", row " + std::to_string(row);
    if (!problem.in_range(problem.prev[row])) {
      report.require(std::isnan(expectation[row]), where + ", expectation: expected NaN");
      report.require(std::isnan(log_normalizer[row]), where + ", log_normalizer: expected NaN");
      report.require(std::isnan(log_prob[row]), where + ", log_prob: expected NaN");
      continue;
    }
    const LogSumExp normalizer(problem.logits_of(row), nodes);
    require_near(report, log_normalizer[row], normalizer.value, normalizer.error, where + ", log_normalizer");
    if (problem.in_range(problem.cur[row])) {
      const Real want = Real(load(problem.logits_of(row)[problem.cur[row]])) - normalizer.value;
      require_near(report, log_prob[row], want, normalizer.error + u64 * std::fabs(want), where + ", log_prob");
    } else {
      report.require(std::isnan(log_prob[row]), where + ", log_prob: expected NaN");
    }

    Sum want;
    for (int64_t node = 0; node < nodes; ++node) {
      const T logit = problem.logits_of(row)[node];
      const Probability p = probability_of(logit, normalizer.value, normalizer.error);
      const Real distance = problem.distance(row, node);
      const Real relative = p.value == 0 ? 0 : normalizer.term_error(logit) + problem.distance_error();
      want.add_uncertain(p.value * distance, (p.error + p.value * relative) * distance);
    }
    require_near(report, expectation[row], want, u64, where + ", expectation");
    saved.expectation[row] = static_cast<C>(want.value());
    saved.log_normalizer[row] = static_cast<double>(normalizer.value);
  }
  return saved;
}

template <class T>
void check_backward(Report& report, Random& random, const Problem<T>& problem, const Saved<T>& saved) {
  using C = Compute<T>;
  const auto [rows, nodes, dim] = problem.shape;
  const auto grad_log_prob = random_values<C>(random, rows), grad_expectation = random_values<C>(random, rows);
  const Touched touched(problem.prev, nodes);
  std::vector<T> dense(nodes * nodes, store<T>(0));
  auto sparse = unwritten_rows<T>(touched, nodes);
  auto grad_z = poisoned<T>(rows * dim), grad_codebook = poisoned<T>(nodes * dim);
  TransitionLossesBackwardArgs<T> args = {grad_log_prob.data(),
                                          grad_expectation.data(),
                                          problem.logits.data(),
                                          problem.prev.data(),
                                          problem.cur.data(),
                                          problem.z.data(),
                                          problem.codebook.data(),
                                          saved.expectation.data(),
                                          saved.log_normalizer.data(),
                                          touched.groups(),
                                          dense.data(),
                                          nullptr,
                                          nullptr,
                                          rows,
                                          nodes,
                                          dim,
                                          /*sparse=*/false};
  run(args);  // one gradient alone, then two, then one
  args.sparse = true;
  args.grad_logits = sparse.data();
  args.grad_z = grad_z.data();
  run(args);
  args.grad_logits = nullptr;
  args.grad_z = nullptr;
  args.grad_codebook = grad_codebook.data();
  run(args);

  const Real u = unit_roundoff<C>(), u64 = unit_roundoff<double>();
  std::vector<Real> center(dim, 0);
  for (int64_t node = 0; node < nodes; ++node) {
    for (int64_t d = 0; d < dim; ++d) center[d] += problem.code(node, d) / nodes;
  }
  // Roundings of a sum of products, per term: the factor from which the mean was subtracted, the product, the
  // additions; then the roundings in double.
  const auto products = [&](int64_t terms) { return (std::min(terms, kProducts) + 2) * u + (terms + 4) * u64; };

  std::vector<Sum> want_logits(nodes * nodes), want_codebook(nodes * dim);
  for (int64_t row = 0; row < rows; ++row) {
    const std::string where = problem.what + ", row " + std::to_string(row);
    if (!problem.in_range(problem.prev[row])) {
      for (int64_t d = 0; d < dim; ++d) {
        report.require(std::isnan(load(grad_z[row * dim + d])), where + ", grad_z: expected NaN");
      }
      continue;
    }
    const Real gl = grad_log_prob[row], ge = grad_expectation[row], expectation = saved.expectation[row];
    std::vector<Sum> want_z(dim);
    for (int64_t node = 0; node < nodes; ++node) {
      Sum& of_logit = want_logits[problem.prev[row] * nodes + node];
      const Real log_normalizer = saved.log_normalizer[row];
      const Probability p =
          probability_of(problem.logits_of(row)[node], log_normalizer, u64 * std::fabs(log_normalizer));
      if (problem.in_range(problem.cur[row])) {
        const Real hit = node == problem.cur[row], distance = problem.distance(row, node);
        const Real weight = ge * (distance - expectation) - gl;
        // In double: the products of the gradients, their sums over the group's rows, the product with p.
        const Real sizes = std::fabs(ge) * (distance + std::fabs(expectation)) + std::fabs(gl);
        const Real error = p.value * std::fabs(ge) * distance * problem.distance_error() + p.error * std::fabs(weight) +
                           (rows + 4) * u64 * p.value * sizes;
        of_logit.add_uncertain(p.value * weight, error);
        of_logit.add_uncertain(gl * hit, 0);
      } else {
        of_logit.add(NAN, 0);
      }
      for (int64_t d = 0; d < dim; ++d) {
        const Real difference = problem.row(row, d) - problem.code(node, d), term = 2 * ge * p.value * difference;
        const Real of_row = std::fabs(problem.row(row, d) - center[d]);
        const Real of_code = std::fabs(problem.code(node, d) - center[d]);
        const Real factor = 2 * std::fabs(ge);
        want_z[d].add_uncertain(term, factor * (p.error * (of_code + std::fabs(difference)) +
                                                p.value * (products(nodes) * of_code + 4 * u64 * of_row)));
        want_codebook[node * dim + d].add_uncertain(
            -term, factor * (p.error * std::fabs(difference) +
                             p.value * (products(rows) * of_row + (rows + 4) * u64 * of_code)));
      }
    }
    for (int64_t d = 0; d < dim; ++d) {
      require_near(report, grad_z[row * dim + d], want_z[d], u64, where + ", grad_z");
    }
  }
  check_gradient_of_logits(report, dense, sparse, want_logits, touched, problem.prev, nodes, problem.what);
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
  // Besides the shapes for all ops: more features than a block of the CPU's distances; more codes, and more groups,
  // than are added in the compute type before double.
  std::vector<Shape> all = shapes(size);
  if (size != Size::kSmall) all.insert(all.end(), {{5, 3, 300}, {9, 530, 3}, {420, 270, 2}});
  for_each_dtype([&]<class T>() {
    report.group(kBackend + ", transition_losses, " + dtype_name<T>());
    const auto check = [&](const Problem<T>& problem) {
      const auto saved = check_forward(report, problem);
      check_backward(report, random, problem, saved);
    };
    for (const Shape& shape : all) {
      check(random_problem<T>(random, shape, 1, 0, shape.codes));
      check(random_problem<T>(random, shape, 1000, 0, 1));
      check(random_problem<T>(random, shape, 1, 1000, 3));
      auto problem = random_problem<T>(random, shape, 1, 0, shape.codes);
      problem.prev = random_index(random, shape.rows, shape.codes, true);
      problem.what += ", some prev invalid";
      check(problem);
      problem = random_problem<T>(random, shape, 1, 0, shape.codes);
      problem.cur = random_index(random, shape.rows, shape.codes, true);
      problem.what += ", some cur invalid";
      check(problem);
    }
  });
  return report.finish(launched());
}
