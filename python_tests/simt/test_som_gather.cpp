// som_gather: winner and neighbors are copied bit by bit, and gradients are summed.
#include "backend.h"
#include "harness.h"
#include "neighborhood/som_gather.h"
#include "oracle.h"

using namespace somvae;
using namespace somvae::test;

namespace {

#if defined(SOMVAE_SIMT)

template <class T>
void run(const SomGatherArgs<T>& args) {
  som_gather_cuda(args, nullptr);
}
template <class T>
void run(const SomGatherBackwardArgs<T>& args) {
  som_gather_backward_cuda(args, nullptr);
}

#else

template <class T>
void run(const SomGatherArgs<T>& args) {
  in_two_ranges(args.rows, [&](int64_t a, int64_t b) { som_gather_cpu(args, a, b); });
}
template <class T>
void run(const SomGatherBackwardArgs<T>& args) {
  in_two_ranges(args.nodes, [&](int64_t a, int64_t b) { som_gather_backward_cpu(args, a, b); });
}

#endif

template <class T>
void check(Report& report, Random& random, const Neighbors& grid, const Batch& batch, bool invalid) {
  const auto [rows, dim] = batch;
  const int64_t nodes = grid.nodes, slots = grid.slots;
  const std::string what = grid.name + ", " + describe({rows, nodes, dim}) + (invalid ? ", some invalid" : "");
  const auto codebook = random_values<T>(random, nodes * dim);
  const auto grad = random_values<T>(random, rows * (1 + slots) * dim);
  const auto index = random_index(random, rows, nodes, invalid);
  const Groups groups = group_by(index, nodes);
  auto out = poisoned<T>(rows * (1 + slots) * dim);
  auto grad_codebook = poisoned<T>(nodes * dim);
  run(SomGatherArgs<T>{codebook.data(), index.data(), grid.table.data(), out.data(), rows, nodes, slots, dim});
  run(SomGatherBackwardArgs<T>{grad.data(), grid.table.data(), groups.order.data(), groups.offsets.data(),
                               grad_codebook.data(), rows, nodes, slots, dim});

  std::vector<Sum> want(nodes * dim);
  for (int64_t row = 0; row < rows; ++row) {
    const bool valid = index[row] >= 0 && index[row] < nodes;
    for (int64_t slot = 0; slot <= slots; ++slot) {
      const int64_t node = !valid ? -1 : slot == 0 ? index[row] : grid.table[index[row] * slots + slot - 1];
      for (int64_t d = 0; d < dim; ++d) {
        const int64_t at = (row * (1 + slots) + slot) * dim + d;
        const Real value = !valid ? Real(NAN) : node < 0 ? 0 : Real(load(codebook[node * dim + d]));
        const Real found = load(out[at]);
        report.require(std::isnan(value) ? std::isnan(found) : found == value,
                       what + ", row " + std::to_string(row) + ", slot " + std::to_string(slot));
        if (node >= 0) want[node * dim + d].add(load(grad[at]), 0);
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
    report.group(kBackend + ", som_gather, " + dtype_name<T>());
    for (const Neighbors& grid : grids(size)) {
      for (const Batch& batch : batches(size)) {
        check<T>(report, random, grid, batch, false);
        check<T>(report, random, grid, batch, true);
      }
    }
  });
  return report.finish(launched());
}
