// local_transition_losses: both losses and the three gradients, the logits' gradient both dense and as rows.
#include "backend.h"
#include "harness.h"
#include "oracle.h"
#include "softmax_oracle.h"
#include "transition/local_transition_losses.h"

using namespace somvae;
using namespace somvae::test;

namespace {

#if defined(SOMVAE_SIMT)

template <class T>
void run(const CodebookMomentsArgs<T>& args) {
  codebook_moments_cuda(args, nullptr);
}
template <class T>
void run(const LocalTransitionLossesArgs<T>& args) {
  local_transition_losses_cuda(args, nullptr);
}
template <class T>
void run(const LocalTransitionLossesBackwardArgs<T>& args) {
  std::vector<int64_t> group_of(args.in.nodes, -1);
  local_transition_losses_backward_cuda(args, group_of.data(), nullptr);
}

#else

template <class T>
void run(const CodebookMomentsArgs<T>& args) {
  codebook_center_cpu(args);
  in_two_ranges(moment_chunks(args.codes), [&](int64_t a, int64_t b) { codebook_moments_cpu(args, a, b); });
  codebook_moments_join_cpu(args);
}
template <class T>
void run(const LocalTransitionLossesArgs<T>& args) {
  in_two_ranges(args.in.groups.count, [&](int64_t a, int64_t b) { local_transition_losses_cpu(args, a, b); });
}
template <class T>
void run(const LocalTransitionLossesBackwardArgs<T>& args) {
  const int64_t places = args.in.groups.count * args.in.window.slots;
  std::vector<int64_t> node(places), order, begin{0};
  std::vector<Compute<T>> weight(places);
  WindowPull<T> pull{node.data(), weight.data(), nullptr, nullptr};
  in_two_ranges(args.in.groups.count,
                [&](int64_t a, int64_t b) { local_transition_losses_backward_groups_cpu(args, pull, a, b); });
  if (!args.grad_codebook) return;
  local_transition_losses_backward_join_cpu(args);
  for (int64_t wanted = 0; wanted < args.in.nodes; ++wanted) {
    for (int64_t place = 0; place < places; ++place) {
      if (node[place] == wanted) order.push_back(place);
    }
    begin.push_back(static_cast<int64_t>(order.size()));
  }
  pull.order = order.data();
  pull.begin = begin.data();
  in_two_ranges(args.in.nodes,
                [&](int64_t a, int64_t b) { local_transition_losses_backward_codebook_cpu(args, pull, a, b); });
}

#endif

// A grid and the pattern of its windows. On a rectangular grid, rows and columns differ by at most the radius. On a
// hexagonal grid, whose odd rows are shifted right by half a column, nodes are at most `radius` steps away. The sides
// of a periodic grid are at least as long as a window.
struct Windows {
  std::string name;
  int64_t rows, cols, slots;
  bool periodic;
  std::vector<int64_t> offsets, mirror;

  int64_t nodes() const { return rows * cols; }
  NodeWindow pattern() const { return {offsets.data(), mirror.data(), slots, rows, cols, periodic}; }
  // The node in a slot, or -1.
  int64_t node_at(int64_t node, int64_t slot) const {
    const int64_t row = node / cols, col = node % cols, at = (row % 2 * slots + slot) * 2;
    int64_t r = row + offsets[at], c = col + offsets[at + 1];
    if (periodic) {
      r = (r + rows) % rows;
      c = (c + cols) % cols;
    }
    return r < 0 || r >= rows || c < 0 || c >= cols ? -1 : r * cols + c;
  }
};

Windows make_windows(int64_t rows, int64_t cols, int64_t radius, bool hexagonal, bool periodic) {
  Windows windows{std::to_string(rows) + "x" + std::to_string(cols) + (hexagonal ? " hexagonal" : " rectangular") +
                      (periodic ? " periodic" : "") + ", radius " + std::to_string(radius),
                  rows,
                  cols,
                  0,
                  periodic,
                  {},
                  {}};
  for (const int64_t parity : {0, 1}) {
    windows.slots = 0;
    for (int64_t down = -radius; down <= radius; ++down) {
      for (int64_t half = -2 * radius; half <= 2 * radius; ++half) {  // half columns
        const int64_t odd = hexagonal ? (down % 2 + 2) % 2 : 0;
        if (((half % 2) + 2) % 2 != odd) continue;
        if (hexagonal && std::abs(half) > 2 * radius - std::abs(down)) continue;
        const int64_t shift = hexagonal ? parity - (parity + odd) % 2 : 0;
        windows.offsets.push_back(down);
        windows.offsets.push_back((half + shift) / 2);
        ++windows.slots;
      }
    }
  }
  for (int64_t slot = 0; slot < windows.slots; ++slot) windows.mirror.push_back(windows.slots - 1 - slot);
  return windows;
}

std::vector<Windows> all_windows(Size size) {
  std::vector<Windows> all = {make_windows(1, 1, 0, false, false), make_windows(3, 4, 1, false, false),
                              make_windows(4, 3, 1, true, true)};
  if (size == Size::kSmall) return all;
  all.insert(all.end(), {make_windows(1, 7, 2, false, false), make_windows(6, 5, 1, true, false),
                         make_windows(7, 9, 3, false, true), make_windows(15, 13, 6, false, false)});
  return all;
}

template <class T>
struct Problem {
  const Windows& windows;
  Batch batch;
  std::vector<T> logits, z, codebook;
  std::vector<int64_t> prev, cur;
  std::string what;

  int64_t nodes() const { return windows.nodes(); }
  bool valid(int64_t node) const { return node >= 0 && node < nodes(); }
  const T* row(int64_t sample) const { return logits.data() + prev[sample] * (windows.slots + 1); }
  Real z_at(int64_t sample, int64_t d) const { return Real(load(z[sample * batch.dim + d])); }
  Real code_at(int64_t node, int64_t d) const { return Real(load(codebook[node * batch.dim + d])); }
  Real distance(int64_t sample, int64_t node) const {
    Real sum = 0;
    for (int64_t d = 0; d < batch.dim; ++d) {
      const Real difference = z_at(sample, d) - code_at(node, d);
      sum += difference * difference;
    }
    return sum;
  }
};

// The rows of the table that a batch touches, as tensor/touched_rows.h defines them.
struct Touched {
  const std::vector<int64_t>& prev;
  int64_t nodes;
  std::vector<int64_t> node, order, offsets{0};

  Touched(const std::vector<int64_t>& prev, int64_t nodes) : prev(prev), nodes(nodes), order(prev.size()) {
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return prev[a] < prev[b]; });
    for (size_t i = 1; i <= order.size(); ++i) {
      if (i < order.size() && prev[order[i]] == prev[order[i - 1]]) continue;
      node.push_back(std::clamp<int64_t>(prev[order[i - 1]], 0, nodes - 1));
      offsets.push_back(static_cast<int64_t>(i));
    }
    node.resize(prev.size(), node.empty() ? 0 : node.back());  // the rest are empty groups
    offsets.resize(prev.size() + 1, static_cast<int64_t>(prev.size()));
  }

  TouchedGroups groups() const {
    return {node.data(), order.data(), offsets.data(), static_cast<int64_t>(node.size())};
  }
  bool empty(int64_t group) const { return offsets[group] == offsets[group + 1]; }
  bool invalid(int64_t group) const {
    return !empty(group) && (prev[order[offsets[group]]] < 0 || prev[order[offsets[group]]] >= nodes);
  }
  // The group of a node, or -1.
  int64_t group_of(int64_t wanted) const {
    for (size_t group = 0; group < node.size(); ++group) {
      if (!empty(group) && prev[order[offsets[group]]] == wanted) return static_cast<int64_t>(group);
    }
    return -1;
  }
};

// The row of the table that the prev of a sample names.
struct Row {
  std::vector<int64_t> slot_of;  // of each node, -1 outside the window
  int64_t outside;
  Real log_normalizer, error;
};

template <class T>
Row row_of(const Problem<T>& problem, int64_t sample) {
  const Windows& windows = problem.windows;
  Row row{std::vector<int64_t>(problem.nodes(), -1), problem.nodes(), 0, 0};
  std::vector<T> taking_part;
  for (int64_t slot = 0; slot < windows.slots; ++slot) {
    const int64_t node = windows.node_at(problem.prev[sample], slot);
    if (node < 0) continue;
    row.slot_of[node] = slot;
    --row.outside;
    taking_part.push_back(problem.row(sample)[slot]);
  }
  if (row.outside > 0) taking_part.push_back(problem.row(sample)[windows.slots]);
  const LogSumExp<T> sum(taking_part.data(), static_cast<int64_t>(taking_part.size()));
  row.log_normalizer = sum.value;
  row.error = sum.error;
  return row;
}

// The probability of a node outside, computed in double.
template <class T>
Probability outside_probability(const Problem<T>& problem, int64_t sample, const Row& row, Real log_normalizer,
                                Real normalizer_error) {
  if (row.outside == 0) return {0, 0};
  const Real exponent = Real(load(problem.row(sample)[problem.windows.slots])) - log_normalizer;
  const Real value = std::exp(exponent) / row.outside, u64 = unit_roundoff<double>();
  return {value, value * (2 * u64 * std::fabs(exponent) + normalizer_error + 6 * u64) + 2 * smallest_normal<double>()};
}

// The magnitude of the terms that the closed form of a sum over all codes adds and subtracts.
template <class T>
struct ClosedForm {
  std::vector<Real> size;  // by feature: an upper bound on |x - center| of codes and samples
  Real square = 0;         // the sum over features of their squares

  explicit ClosedForm(const Problem<T>& problem) {
    for (int64_t d = 0; d < problem.batch.dim; ++d) {
      Real largest = 0;
      for (int64_t node = 0; node < problem.nodes(); ++node) {
        largest = std::max(largest, std::fabs(problem.code_at(node, d)));
      }
      for (int64_t sample = 0; sample < problem.batch.rows; ++sample) {
        largest = std::max(largest, std::fabs(problem.z_at(sample, d)));
      }
      size.push_back(2 * largest);
      square += 4 * largest * largest;
    }
  }
};

template <class T>
struct Saved {
  std::vector<Compute<T>> expectation;
  std::vector<double> log_normalizer, outside;
};

template <class T>
LocalTransition<T> inputs_of(const Problem<T>& problem, const std::vector<double>& moments, const Touched& touched) {
  const auto [rows, dim] = problem.batch;
  return {problem.logits.data(),
          problem.prev.data(),
          problem.cur.data(),
          problem.z.data(),
          problem.codebook.data(),
          moments.data(),
          touched.groups(),
          problem.windows.pattern(),
          rows,
          problem.nodes(),
          dim};
}

template <class T>
std::vector<double> moments_of(const Problem<T>& problem) {
  const int64_t nodes = problem.nodes(), dim = problem.batch.dim;
  auto partial = poisoned<double>(moment_chunks(nodes) * 2 * dim), moments = poisoned<double>(2 * dim + 1);
  run(CodebookMomentsArgs<T>{problem.codebook.data(), partial.data(), moments.data(), nodes, dim});
  return moments;
}

template <class T>
Saved<T> check_forward(Report& report, const Problem<T>& problem, const ClosedForm<T>& closed) {
  using C = Compute<T>;
  const auto [rows, dim] = problem.batch;
  const int64_t nodes = problem.nodes();
  const auto moments = moments_of(problem);
  const Touched touched(problem.prev, nodes);
  auto log_prob = poisoned<C>(rows), expectation = poisoned<C>(rows);
  auto log_normalizer = poisoned<double>(rows), outside = poisoned<double>(rows);
  run(LocalTransitionLossesArgs<T>{inputs_of(problem, moments, touched), log_prob.data(), expectation.data(),
                                   log_normalizer.data(), outside.data()});

  const Real u64 = unit_roundoff<double>();
  Saved<T> saved = {std::vector<C>(rows, C(NAN)), std::vector<double>(rows, NAN), std::vector<double>(rows, NAN)};
  for (int64_t n = 0; n < rows; ++n) {
    const std::string where = problem.what + ", row " + std::to_string(n);
    if (!problem.valid(problem.prev[n])) {
      report.require(std::isnan(log_prob[n]) && std::isnan(expectation[n]) && std::isnan(log_normalizer[n]) &&
                         std::isnan(outside[n]),
                     where + ": expected NaN");
      continue;
    }
    const Row row = row_of(problem, n);
    const Probability q = outside_probability(problem, n, row, row.log_normalizer, row.error);
    const int64_t cur = problem.cur[n];
    if (!problem.valid(cur)) {
      report.require(std::isnan(log_prob[n]), where + ", log_prob: expected NaN");
    } else {
      const int64_t slot = row.slot_of[cur];
      const Real logit = Real(load(problem.row(n)[slot >= 0 ? slot : problem.windows.slots]));
      const Real shared = slot >= 0 ? 0 : std::log(Real(row.outside));
      const Real value = logit - shared - row.log_normalizer;
      require_near(report, log_prob[n], value,
                   row.error + 3 * u64 * (std::fabs(value) + std::fabs(row.log_normalizer) + shared + std::fabs(logit)),
                   where + ", log_prob");
    }
    Sum want;
    for (int64_t node = 0; node < nodes; ++node) {
      const int64_t slot = row.slot_of[node];
      const Probability p = slot >= 0 ? probability_of(problem.row(n)[slot], row.log_normalizer, row.error) : q;
      const Real distance = problem.distance(n, node);
      want.add_uncertain(p.value * distance, p.error * distance);
    }
    want.add_uncertain(0, (q.value + q.error) * 4 * nodes * (nodes + dim + 8) * u64 * closed.square);
    require_near(report, expectation[n], want, (dim + 8) * u64, where + ", expectation");
    require_near(report, log_normalizer[n], row.log_normalizer, row.error, where + ", log_normalizer");
    require_near(report, outside[n], q.value, q.error, where + ", outside");
    saved.expectation[n] = static_cast<C>(want.value());
    saved.log_normalizer[n] = static_cast<double>(row.log_normalizer);
    saved.outside[n] =
        static_cast<double>(outside_probability(problem, n, row, Real(saved.log_normalizer[n]), 0).value);
  }
  return saved;
}

template <class T>
void check_backward(Report& report, Random& random, const Problem<T>& problem, const ClosedForm<T>& closed,
                    const Saved<T>& saved) {
  using C = Compute<T>;
  const auto [rows, dim] = problem.batch;
  const int64_t nodes = problem.nodes(), columns = problem.windows.slots + 1;
  const auto moments = moments_of(problem);
  const Touched touched(problem.prev, nodes);
  const auto u = random_values<C>(random, rows), v = random_values<C>(random, rows);
  std::vector<T> dense(nodes * columns, store<T>(0));
  auto sparse = poisoned<T>(rows * columns), grad_z = poisoned<T>(rows * dim), grad_codebook = poisoned<T>(nodes * dim);
  auto sums = poisoned<double>((rows + 1) * (dim + 1));
  LocalTransitionLossesBackwardArgs<T> args = {inputs_of(problem, moments, touched),
                                               u.data(),
                                               v.data(),
                                               saved.expectation.data(),
                                               saved.log_normalizer.data(),
                                               saved.outside.data(),
                                               dense.data(),
                                               nullptr,
                                               nullptr,
                                               false,
                                               nullptr};
  run(args);
  args.grad_logits = sparse.data();
  args.sparse = true;
  args.grad_z = grad_z.data();
  run(args);
  args.grad_logits = args.grad_z = nullptr;
  args.grad_codebook = grad_codebook.data();
  args.group_sums = sums.data();
  run(args);

  const Real u64 = unit_roundoff<double>();
  std::vector<Sum> want_logits(nodes * columns), want_codebook(nodes * dim);
  std::vector<bool> has_invalid_cur(nodes, false);  // by row of the table
  for (int64_t n = 0; n < rows; ++n) {
    const std::string where = problem.what + ", row " + std::to_string(n);
    if (!problem.valid(problem.prev[n])) {
      for (int64_t d = 0; d < dim; ++d) {
        report.require(std::isnan(load(grad_z[n * dim + d])), where + ", grad_z: expected NaN");
      }
      continue;
    }
    const int64_t prev = problem.prev[n], cur = problem.cur[n];
    if (!problem.valid(cur)) has_invalid_cur[prev] = true;
    const Row row = row_of(problem, n);
    const Probability q = outside_probability(problem, n, row, Real(saved.log_normalizer[n]), 0);
    const Real gu = u[n], gv = v[n], expectation = saved.expectation[n];
    Sum& remainder = want_logits[prev * columns + columns - 1];
    std::vector<Sum> want_z(dim);
    for (int64_t node = 0; node < nodes; ++node) {
      const int64_t slot = row.slot_of[node];
      const Probability p = slot >= 0 ? probability_of(problem.row(n)[slot], Real(saved.log_normalizer[n])) : q;
      Sum& logit = slot >= 0 ? want_logits[prev * columns + slot] : remainder;
      const Real distance = problem.distance(n, node);
      if (node == cur) logit.add(gu, 0);
      logit.add_uncertain(-gu * p.value, std::fabs(gu) * p.error);
      // The kernels sum v d and v expectation of a group before they take the difference.
      const Real parts = std::fabs(gv) * p.value * (distance + std::fabs(expectation));
      logit.add_uncertain(gv * p.value * (distance - expectation),
                          std::fabs(gv) * p.error * std::fabs(distance - expectation) + (rows + dim + 8) * u64 * parts);
      for (int64_t d = 0; d < dim; ++d) {
        const Real term = 2 * gv * (problem.z_at(n, d) - problem.code_at(node, d));
        want_z[d].add_uncertain(term * p.value, std::fabs(term) * p.error);
        want_codebook[node * dim + d].add_uncertain(-term * p.value, std::fabs(term) * p.error);
      }
    }
    const Real share = q.value + q.error, operations = 4 * (nodes + dim + rows + 8) * u64;
    if (row.outside > 0) {
      remainder.add_uncertain(
          0, std::fabs(gv) * share * nodes * operations * closed.square + 2 * std::fabs(gu) * operations);
    }
    for (int64_t d = 0; d < dim; ++d) {
      want_z[d].add_uncertain(0, 2 * std::fabs(gv) * share * nodes * operations * closed.size[d]);
      require_near(report, grad_z[n * dim + d], want_z[d], 4 * u64, where + ", grad_z");
      // The kernels sum (e - center) and (z - center) instead of differences, with the weights of all nodes.
      for (int64_t node = 0; node < nodes; ++node) {
        const int64_t slot = row.slot_of[node];
        const Real p = slot >= 0 ? std::exp(Real(load(problem.row(n)[slot])) - saved.log_normalizer[n]) : 0;
        const Real rounding = slot >= 0 ? unit_roundoff<C>() * (p + share) + p * 8 * unit_roundoff<C>() : 0;
        // The product of v and p may be below the smallest normal number.
        want_codebook[node * dim + d].add_uncertain(
            0, 2 * closed.size[d] * (std::fabs(gv) * ((p + 2 * share) * operations + rounding) + flushed<C>()));
      }
    }
  }
  for (int64_t node = 0; node < nodes; ++node) {
    for (int64_t column = 0; column < columns; ++column) {
      const std::string where = problem.what + ", gradient of logits of node " + std::to_string(node);
      const Sum& want = want_logits[node * columns + column];
      const bool absent = column + 1 < columns && problem.windows.node_at(node, column) < 0;
      const int64_t group = touched.group_of(node);
      for (const T* got : {&dense[node * columns + column], group < 0 ? nullptr : &sparse[group * columns + column]}) {
        if (got == nullptr) continue;
        if (has_invalid_cur[node] && !absent && want.error(u64) > 0) {
          report.require(std::isnan(load(*got)), where + ": expected NaN");
        } else if (!has_invalid_cur[node]) {
          require_near(report, *got, want, 4 * u64, where);
        }
      }
    }
  }
  for (int64_t group = 0; group < rows; ++group) {
    if (!touched.invalid(group)) continue;
    for (int64_t column = 0; column < columns; ++column) {
      report.require(std::isnan(load(sparse[group * columns + column])), problem.what + ", sparse: expected NaN");
    }
  }
  for (size_t i = 0; i < want_codebook.size(); ++i) {
    require_near(report, grad_codebook[i], want_codebook[i], 4 * u64,
                 problem.what + ", grad_codebook[" + std::to_string(i) + "]");
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Size size = parse_size(argc, argv);
  Report report;
  Random random(7);
  for_each_dtype([&]<class T>() {
    report.group(kBackend + ", local_transition_losses, " + dtype_name<T>());
    for (const Windows& windows : all_windows(size)) {
      for (const Batch& batch : batches(size)) {
        for (const double scale : {1., 1000.}) {
          for (const bool invalid : {false, true}) {
            const int64_t nodes = windows.nodes();
            const Problem<T> problem = {windows,
                                        batch,
                                        random_values<T>(random, nodes * (windows.slots + 1), scale),
                                        random_values<T>(random, batch.rows * batch.dim),
                                        random_values<T>(random, nodes * batch.dim),
                                        random_index(random, batch.rows, nodes, invalid),
                                        random_index(random, batch.rows, nodes, invalid),
                                        windows.name + ", rows " + std::to_string(batch.rows) + " dim " +
                                            std::to_string(batch.dim) + (invalid ? ", some invalid" : "")};
            const ClosedForm<T> closed(problem);
            const auto saved = check_forward(report, problem, closed);
            check_backward(report, random, problem, closed, saved);
          }
        }
      }
    }
  });
  return report.finish(launched());
}
