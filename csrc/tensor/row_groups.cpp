#include "tensor/row_groups.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/sort.h>

namespace somvae {

RowGroups group_rows(const at::Tensor& index, int64_t units) {
  const at::Tensor flat = index.reshape({-1});
  auto [sorted, order] = at::sort(flat, /*stable=*/true, /*dim=*/0, /*descending=*/false);
  const at::Tensor bounds = at::arange(units + 1, flat.options());
  return {order, at::searchsorted(sorted, bounds)};
}

}  // namespace somvae
