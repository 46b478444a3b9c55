// som_gather: winner and neighbours, copied bit by bit, and the sum of what comes back.
#include "harness.h"
#include "oracle.h"
#include "twins.h"

using namespace somvae;
using namespace somvae::test;

namespace {

template <class T>
void check(Report& report, Random& random, const Neighbors& grid, const Batch& batch, bool invalid) {
  const auto [rows, dim] = batch;
  const int64_t units = grid.units, slots = grid.slots;
  const std::string what = grid.name + ", " + describe({rows, units, dim}) + (invalid ? ", some invalid" : "");
  const auto codebook = random_values<T>(random, units * dim);
  const auto grad = random_values<T>(random, rows * (1 + slots) * dim);
  const auto index = random_index(random, rows, units, invalid);
  const Groups groups = group_by(index, units);
  auto out = poisoned<T>(rows * (1 + slots) * dim);
  auto grad_codebook = poisoned<T>(units * dim);
  run(SomGatherArgs<T>{codebook.data(), index.data(), grid.table.data(), out.data(), rows, units, slots, dim});
  run(SomGatherBackwardArgs<T>{grad.data(), grid.table.data(), groups.order.data(), groups.offsets.data(),
                               grad_codebook.data(), rows, units, slots, dim});

  std::vector<Sum> want(units * dim);
  for (int64_t row = 0; row < rows; ++row) {
    const bool valid = index[row] >= 0 && index[row] < units;
    for (int64_t slot = 0; slot <= slots; ++slot) {
      const int64_t unit = !valid ? -1 : slot == 0 ? index[row] : grid.table[index[row] * slots + slot - 1];
      for (int64_t d = 0; d < dim; ++d) {
        const int64_t at = (row * (1 + slots) + slot) * dim + d;
        const Real value = !valid ? Real(NAN) : unit < 0 ? 0 : Real(load(codebook[unit * dim + d]));
        const Real found = load(out[at]);
        report.require(std::isnan(value) ? std::isnan(found) : found == value,
                       what + ", row " + std::to_string(row) + ", slot " + std::to_string(slot));
        if (unit >= 0) want[unit * dim + d].add(load(grad[at]), 0);
      }
    }
  }
  for (size_t i = 0; i < want.size(); ++i) {
    const Real u = unit_roundoff<Compute<T>>();
    require_near(report, grad_codebook[i], want[i], u, what + ", grad_codebook[" + std::to_string(i) + "]");
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Size size = parse_size(argc, argv);
  Report report;
  Random random(3);
  for_each_dtype([&]<class T>() {
    report.group(kTwin + ", som_gather, " + dtype_name<T>());
    for (const Neighbors& grid : grids(size)) {
      for (const Batch& batch : batches(size)) {
        check<T>(report, random, grid, batch, false);
        check<T>(report, random, grid, batch, true);
      }
    }
  });
  return report.finish(launched());
}
