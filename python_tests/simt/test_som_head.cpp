// som_losses: both losses of every row and both gradients, borders as zeros and masked.
#include "harness.h"
#include "oracle.h"
#include "twins.h"

using namespace somvae;
using namespace somvae::test;

namespace {

template <class T>
struct Problem {
  const Neighbors& grid;
  int64_t rows, dim;
  std::vector<T> z, codebook;
  std::vector<int64_t> index;
  std::string what;

  bool valid(int64_t row) const { return index[row] >= 0 && index[row] < grid.units; }
  // Of the winner (slot 0) or a neighbour; -1 if there is none.
  int64_t unit(int64_t row, int64_t slot) const {
    return slot == 0 ? index[row] : grid.table[index[row] * grid.slots + slot - 1];
  }
  Real difference(int64_t row, int64_t unit, int64_t d) const {
    return Real(load(z[row * dim + d])) - (unit < 0 ? 0 : Real(load(codebook[unit * dim + d])));
  }
};

template <class T>
void check_forward(Report& report, const Problem<T>& problem, bool mask_border) {
  using C = Compute<T>;
  const auto& grid = problem.grid;
  auto commitment = poisoned<C>(problem.rows), som = poisoned<C>(problem.rows);
  run(SomLossesArgs<T>{problem.z.data(), problem.codebook.data(), problem.index.data(), grid.table.data(),
                       commitment.data(), som.data(), problem.rows, grid.units, grid.slots, problem.dim, mask_border});

  const Real u = unit_roundoff<C>();
  for (int64_t row = 0; row < problem.rows; ++row) {
    const std::string where = problem.what + (mask_border ? ", masked" : ", zeros") + ", row " + std::to_string(row);
    if (!problem.valid(row)) {
      report.require(std::isnan(commitment[row]) && std::isnan(som[row]), where + ": expected NaN");
      continue;
    }
    Sum want_commitment, want_som;
    for (int64_t slot = 0; slot <= grid.slots; ++slot) {
      const int64_t unit = problem.unit(row, slot);
      if (unit < 0 && mask_border) continue;
      for (int64_t d = 0; d < problem.dim; ++d) {
        const Real difference = problem.difference(row, unit, d);
        want_som.add(difference * difference, 3 * u);  // the difference, twice, and the square
        if (slot == 0) want_commitment.add(difference * difference, 3 * u);
      }
    }
    require_near(report, commitment[row], want_commitment, u, where + ", commitment");
    require_near(report, som[row], want_som, u, where + ", som");
  }
}

template <class T>
void check_backward(Report& report, Random& random, const Problem<T>& problem) {
  using C = Compute<T>;
  const auto& grid = problem.grid;
  const auto grad_commitment = random_values<C>(random, problem.rows);
  const auto grad_som = random_values<C>(random, problem.rows);
  const Groups groups = group_by(problem.index, grid.units);
  auto grad_z = poisoned<T>(problem.rows * problem.dim), grad_codebook = poisoned<T>(grid.units * problem.dim);
  auto only_z = grad_z, only_codebook = grad_codebook;
  SomLossesBackwardArgs<T> args = {grad_commitment.data(),
                                   grad_som.data(),
                                   problem.z.data(),
                                   problem.codebook.data(),
                                   problem.index.data(),
                                   grid.table.data(),
                                   groups.order.data(),
                                   groups.offsets.data(),
                                   grad_z.data(),
                                   grad_codebook.data(),
                                   problem.rows,
                                   grid.units,
                                   grid.slots,
                                   problem.dim};
  run(args);
  args.grad_z = only_z.data();
  args.grad_codebook = nullptr;
  run(args);
  args.grad_z = nullptr;
  args.grad_codebook = only_codebook.data();
  run(args);

  const Real u = unit_roundoff<C>();
  std::vector<Sum> want(grid.units * problem.dim);
  for (int64_t row = 0; row < problem.rows; ++row) {
    for (int64_t d = 0; d < problem.dim; ++d) {
      const int64_t at = row * problem.dim + d;
      const std::string where = problem.what + ", grad_z of row " + std::to_string(row);
      report.require(load(only_z[at]) == load(grad_z[at]) || !problem.valid(row), where + " alone differs");
      if (!problem.valid(row)) {
        report.require(std::isnan(load(grad_z[at])), where + ": expected NaN");
        continue;
      }
      const Real commitment = 2 * Real(grad_commitment[row]), som = 2 * Real(grad_som[row]);
      require_near(report, grad_z[at], commitment * problem.difference(row, problem.index[row], d),
                   2 * u * std::fabs(commitment * problem.difference(row, problem.index[row], d)), where);
      for (int64_t slot = 0; slot <= grid.slots; ++slot) {
        const int64_t unit = problem.unit(row, slot);
        if (unit < 0) continue;
        // Kernels may add the winner's two weights first: each part then carries the roundings of sum and product.
        const Real difference = problem.difference(row, unit, d);
        want[unit * problem.dim + d].add(-som * difference, 3 * u);
        if (slot == 0) want[unit * problem.dim + d].add(-commitment * difference, 3 * u);
      }
    }
  }
  for (size_t i = 0; i < want.size(); ++i) {
    const std::string where = problem.what + ", grad_codebook[" + std::to_string(i) + "]";
    require_near(report, grad_codebook[i], want[i], u, where);
    report.require(load(only_codebook[i]) == load(grad_codebook[i]), where + " alone differs");
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Size size = parse_size(argc, argv);
  Report report;
  Random random(4);
  for_each_dtype([&]<class T>() {
    report.group(kTwin + ", som_losses, " + dtype_name<T>());
    for (const Neighbors& grid : grids(size)) {
      for (const auto& [rows, dim] : batches(size)) {
        for (const bool invalid : {false, true}) {
          const Problem<T> problem = {grid,
                                      rows,
                                      dim,
                                      random_values<T>(random, rows * dim),
                                      random_values<T>(random, grid.units * dim),
                                      random_index(random, rows, grid.units, invalid),
                                      grid.name + ", " + describe({rows, grid.units, dim})};
          check_forward(report, problem, false);
          check_forward(report, problem, true);
          check_backward(report, random, problem);
        }
      }
    }
  });
  return report.finish(launched());
}
