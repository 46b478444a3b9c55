#include "tensor/row_groups.h"

#include <ATen/Parallel.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/sort.h>

#include <algorithm>
#include <utility>

#include "index_range.h"

namespace somvae {

namespace {

// Counting sort in two passes over the rows. Each part of the rows has its own counts, so threads share nothing.
// The sort is stable, so the order does not depend on the parts.
RowGroups count_rows(const at::Tensor& index, int64_t nodes) {
  const at::Tensor flat = index.contiguous();
  const int64_t rows = flat.numel();
  constexpr int64_t min_part_rows = 32768;
  const int64_t part_rows = std::max({min_part_rows, nodes, (rows - 1) / at::get_num_threads() + 1});
  const int64_t parts = std::max<int64_t>(1, (rows + part_rows - 1) / part_rows);

  const RowGroups groups{at::empty({rows}, flat.options()), at::empty({nodes + 1}, flat.options())};
  const at::Tensor places = at::empty({parts, nodes}, flat.options());
  const int64_t* const node_of = flat.const_data_ptr<int64_t>();
  int64_t* const order = groups.order.mutable_data_ptr<int64_t>();
  int64_t* const offsets = groups.offsets.mutable_data_ptr<int64_t>();
  int64_t* const all_places = places.mutable_data_ptr<int64_t>();

  const auto for_each_row = [&](int64_t part, const auto& visit) {
    for (int64_t row = part * part_rows; row < std::min(rows, (part + 1) * part_rows); ++row) {
      if (in_range(node_of[row], nodes)) visit(node_of[row], row);
    }
  };
  at::parallel_for(0, parts, 1, [&](int64_t first, int64_t last) {
    for (int64_t part = first; part < last; ++part) {
      int64_t* const count = all_places + part * nodes;
      std::fill_n(count, nodes, 0);
      for_each_row(part, [&](int64_t node, int64_t) { ++count[node]; });
    }
  });
  int64_t place = 0;
  for (int64_t node = 0; node < nodes; ++node) {
    offsets[node] = place;
    for (int64_t part = 0; part < parts; ++part) place += std::exchange(all_places[part * nodes + node], place);
  }
  offsets[nodes] = place;
  at::parallel_for(0, parts, 1, [&](int64_t first, int64_t last) {
    for (int64_t part = first; part < last; ++part) {
      int64_t* const next = all_places + part * nodes;
      for_each_row(part, [&](int64_t node, int64_t row) { order[next[node]++] = row; });
    }
  });
  return groups;
}

}  // namespace

RowGroups group_rows(const at::Tensor& index, int64_t nodes) {
  if (index.is_cpu()) return count_rows(index, nodes);
  const at::Tensor flat = index.reshape({-1});
  auto [sorted, order] = at::sort(flat, /*stable=*/true, /*dim=*/0, /*descending=*/false);
  const at::Tensor bounds = at::arange(nodes + 1, flat.options());
  return {order, at::searchsorted(sorted, bounds)};
}

}  // namespace somvae
