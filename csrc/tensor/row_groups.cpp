#include "tensor/row_groups.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/zeros.h>

#include "index_range.h"

namespace somvae {

namespace {

// Counting sort: two passes over the rows.
RowGroups count_rows(const at::Tensor& index, int64_t units) {
  const at::Tensor flat = index.contiguous();
  const int64_t rows = flat.numel();
  const RowGroups groups{at::empty({rows}, flat.options()), at::zeros({units + 1}, flat.options())};
  const int64_t* const unit_of = flat.const_data_ptr<int64_t>();
  int64_t* const order = groups.order.mutable_data_ptr<int64_t>();
  int64_t* const offsets = groups.offsets.mutable_data_ptr<int64_t>();
  for (int64_t row = 0; row < rows; ++row) {
    if (in_range(unit_of[row], units)) ++offsets[unit_of[row] + 1];
  }
  for (int64_t unit = 0; unit < units; ++unit) offsets[unit + 1] += offsets[unit];
  const at::Tensor next_places = groups.offsets.clone();
  int64_t* const next = next_places.mutable_data_ptr<int64_t>();
  for (int64_t row = 0; row < rows; ++row) {
    if (in_range(unit_of[row], units)) order[next[unit_of[row]]++] = row;
  }
  return groups;
}

}  // namespace

RowGroups group_rows(const at::Tensor& index, int64_t units) {
  if (index.is_cpu()) return count_rows(index, units);
  const at::Tensor flat = index.reshape({-1});
  auto [sorted, order] = at::sort(flat, /*stable=*/true, /*dim=*/0, /*descending=*/false);
  const at::Tensor bounds = at::arange(units + 1, flat.options());
  return {order, at::searchsorted(sorted, bounds)};
}

}  // namespace somvae
