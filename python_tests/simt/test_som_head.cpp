// som_head and som_losses: winners' codes, both losses of every row and both gradients, with borders as zeros and
// masked, and every set of incoming gradients, gathered and straight through.
#include "backend.h"
#include "harness.h"
#include "neighborhood/som_head.h"
#include "oracle.h"

using namespace somvae;
using namespace somvae::test;

namespace {

#if defined(SOMVAE_SIMT)

template <class T>
void run(const SomHeadArgs<T>& args) {
  som_head_cuda(args, nullptr);
}
template <class T>
void run(const SomHeadBackwardArgs<T>& args) {
  som_head_backward_cuda(args, nullptr);
}

#else

template <class T>
void run(const SomHeadArgs<T>& args) {
  in_two_ranges(args.rows, [&](int64_t a, int64_t b) { som_head_cpu(args, a, b); });
}
template <class T>
void run(const SomHeadBackwardArgs<T>& args) {
  if (args.grad_z) in_two_ranges(args.rows, [&](int64_t a, int64_t b) { som_head_backward_z_cpu(args, a, b); });
  if (args.grad_codebook) {
    memset(args.grad_codebook, 0, args.nodes * args.dim * sizeof(T));
    const std::vector<int64_t> nodes = nodes_with_gradient(args);
    in_two_ranges(nodes.size(),
                  [&](int64_t a, int64_t b) { som_head_backward_codebook_cpu(args, nodes.data(), a, b); });
  }
}

#endif

template <class T>
struct Problem {
  const Neighbors& grid;
  int64_t rows, dim;
  std::vector<T> z, codebook;
  std::vector<int64_t> index;
  std::string what;

  bool valid(int64_t row) const { return index[row] >= 0 && index[row] < grid.nodes; }
  // The winner (slot 0) or a neighbor; -1 if there is none.
  int64_t node(int64_t row, int64_t slot) const {
    return slot == 0 ? index[row] : grid.table[index[row] * grid.slots + slot - 1];
  }
  Real difference(int64_t row, int64_t node, int64_t d) const {
    return Real(load(z[row * dim + d])) - (node < 0 ? 0 : Real(load(codebook[node * dim + d])));
  }
};

template <class T>
void check_forward(Report& report, const Problem<T>& problem, bool mask_border) {
  using C = Compute<T>;
  const auto& grid = problem.grid;
  auto commitment = poisoned<C>(problem.rows), som = poisoned<C>(problem.rows);
  auto commitment_alone = commitment, som_alone = som;
  auto quantized = poisoned<T>(problem.rows * problem.dim);
  SomHeadArgs<T> args = {problem.z.data(),     problem.codebook.data(),
                         problem.index.data(), grid.table.data(),
                         quantized.data(),     commitment.data(),
                         som.data(),           problem.rows,
                         grid.nodes,           grid.slots,
                         problem.dim,          mask_border};
  run(args);
  args.quantized = nullptr;
  args.commitment = commitment_alone.data();
  args.som = som_alone.data();
  run(args);

  const Real u = unit_roundoff<C>();
  for (int64_t row = 0; row < problem.rows; ++row) {
    const std::string where = problem.what + (mask_border ? ", masked" : ", zeros") + ", row " + std::to_string(row);
    for (int64_t d = 0; d < problem.dim; ++d) {
      const auto code = load(quantized[row * problem.dim + d]);
      const bool right =
          problem.valid(row) ? code == load(problem.codebook[problem.index[row] * problem.dim + d]) : std::isnan(code);
      report.require(right, where + ": not the winner's code");
    }
    if (!problem.valid(row)) {
      report.require(std::isnan(commitment[row]) && std::isnan(som[row]), where + ": expected NaN");
      report.require(std::isnan(commitment_alone[row]) && std::isnan(som_alone[row]), where + ", alone: expected NaN");
      continue;
    }
    report.require(commitment_alone[row] == commitment[row] && som_alone[row] == som[row], where + ": alone differs");
    Sum want_commitment, want_som;
    for (int64_t slot = 0; slot <= grid.slots; ++slot) {
      const int64_t node = problem.node(row, slot);
      if (node < 0 && mask_border) continue;
      for (int64_t d = 0; d < problem.dim; ++d) {
        const Real difference = problem.difference(row, node, d);
        want_som.add(difference * difference, 3 * u);  // the difference, twice, and the square
        if (slot == 0) want_commitment.add(difference * difference, 3 * u);
      }
    }
    require_near(report, commitment[row], want_commitment, u, where + ", commitment");
    require_near(report, som[row], want_som, u, where + ", som");
  }
}

// Which gradients come in, and whether that of `quantized` goes straight through to z.
struct Incoming {
  bool quantized, commitment, som, straight_through;

  std::string name() const {
    return std::string(quantized ? straight_through ? ", copied" : ", gathered" : "") +
           (commitment ? ", commitment" : "") + (som ? ", som" : "");
  }
};

template <class T>
void check_backward(Report& report, Random& random, const Problem<T>& problem, const Incoming& incoming) {
  using C = Compute<T>;
  const auto& grid = problem.grid;
  const auto grad_quantized = random_values<T>(random, problem.rows * problem.dim);
  const auto grad_commitment = random_values<C>(random, problem.rows);
  const auto grad_som = random_values<C>(random, problem.rows);
  const Groups groups = group_by(problem.index, grid.nodes);
  auto grad_z = poisoned<T>(problem.rows * problem.dim), grad_codebook = poisoned<T>(grid.nodes * problem.dim);
  auto only_z = grad_z, only_codebook = grad_codebook;
  SomHeadBackwardArgs<T> args = {incoming.quantized ? grad_quantized.data() : nullptr,
                                 incoming.commitment ? grad_commitment.data() : nullptr,
                                 incoming.som ? grad_som.data() : nullptr,
                                 problem.z.data(),
                                 problem.codebook.data(),
                                 problem.index.data(),
                                 grid.table.data(),
                                 groups.order.data(),
                                 groups.offsets.data(),
                                 grad_z.data(),
                                 grad_codebook.data(),
                                 problem.rows,
                                 grid.nodes,
                                 grid.slots,
                                 problem.dim,
                                 incoming.straight_through};
  run(args);
  args.grad_z = only_z.data();
  args.grad_codebook = nullptr;
  run(args);
  args.grad_z = nullptr;
  args.grad_codebook = only_codebook.data();
  run(args);

  const Real u = unit_roundoff<C>();
  const std::string what = problem.what + incoming.name();
  std::vector<Sum> want(grid.nodes * problem.dim);
  for (int64_t row = 0; row < problem.rows; ++row) {
    for (int64_t d = 0; d < problem.dim; ++d) {
      const int64_t at = row * problem.dim + d;
      const std::string where = what + ", grad_z of row " + std::to_string(row);
      const bool valid = problem.valid(row) || !incoming.commitment;  // without commitment, no code is read
      report.require(load(only_z[at]) == load(grad_z[at]) || !valid, where + " alone differs");
      const Real quantized = incoming.quantized ? Real(load(grad_quantized[at])) : 0;
      const Real commitment = incoming.commitment ? 2 * Real(grad_commitment[row]) : 0;
      const Real som = incoming.som ? 2 * Real(grad_som[row]) : 0;
      Sum want_z;
      if (incoming.straight_through) want_z.add(quantized, 0);
      if (!valid) {
        report.require(std::isnan(load(grad_z[at])), where + ": expected NaN");
      } else if (problem.valid(row)) {
        want_z.add(commitment * problem.difference(row, problem.index[row], d), 2 * u);
      }
      if (valid) require_near(report, grad_z[at], want_z, u, where);
      if (!problem.valid(row)) continue;
      for (int64_t slot = 0; slot <= grid.slots; ++slot) {
        const int64_t node = problem.node(row, slot);
        if (node < 0) continue;
        // Kernels may add the two weights of the winner first: then each part has the rounding of a sum and of a
        // product.
        const Real difference = problem.difference(row, node, d);
        want[node * problem.dim + d].add(-som * difference, 3 * u);
        if (slot == 0) want[node * problem.dim + d].add(-commitment * difference, 3 * u);
        if (slot == 0 && !incoming.straight_through) want[node * problem.dim + d].add(quantized, 0);
      }
    }
  }
  for (size_t i = 0; i < want.size(); ++i) {
    const std::string where = what + ", grad_codebook[" + std::to_string(i) + "]";
    require_near(report, grad_codebook[i], want[i], u, where);
    report.require(load(only_codebook[i]) == load(grad_codebook[i]), where + " alone differs");
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Size size = parse_size(argc, argv);
  Report report;
  Random random(4);
  std::vector<Incoming> incoming = {
      {true, true, true, false}, {true, true, true, true}, {false, true, true, false}, {true, false, false, false}};
  if (size != Size::kSmall) {
    incoming.insert(incoming.end(), {{true, false, false, true},
                                     {false, true, false, false},
                                     {false, false, true, false},
                                     {true, true, false, true},
                                     {true, false, true, false},
                                     {false, false, false, false}});
  }
  for_each_dtype([&]<class T>() {
    report.group(kBackend + ", som_head, " + dtype_name<T>());
    size_t turn = 0;
    for (const Neighbors& grid : grids(size)) {
      for (const auto& [rows, dim] : batches(size)) {
        for (const bool invalid : {false, true}) {
          const Problem<T> problem = {grid,
                                      rows,
                                      dim,
                                      random_values<T>(random, rows * dim),
                                      random_values<T>(random, grid.nodes * dim),
                                      random_index(random, rows, grid.nodes, invalid),
                                      grid.name + ", " + describe({rows, grid.nodes, dim})};
          check_forward(report, problem, false);
          check_forward(report, problem, true);
          check_backward(report, random, problem, incoming[0]);
          check_backward(report, random, problem, incoming[1 + turn++ % (incoming.size() - 1)]);
        }
      }
    }
  });
  return report.finish(launched());
}
