#include "tensor/touched_rows.h"

#include <ATen/TensorSubclassLikeUtils.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/sort.h>

#include <algorithm>
#include <numeric>

namespace somvae {

namespace {

TouchedRows sorted_on_cpu(const at::Tensor& index, int64_t nodes) {
  const at::Tensor flat = index.contiguous();
  const int64_t rows = flat.numel();
  const TouchedRows touched{at::empty({rows}, flat.options()), at::empty({rows}, flat.options()),
                            at::empty({rows + 1}, flat.options())};
  const int64_t* const node_of = flat.const_data_ptr<int64_t>();
  int64_t* const node = touched.node.mutable_data_ptr<int64_t>();
  int64_t* const order = touched.order.mutable_data_ptr<int64_t>();
  int64_t* const offsets = touched.offsets.mutable_data_ptr<int64_t>();

  std::iota(order, order + rows, 0);
  std::sort(order, order + rows,
            [&](int64_t a, int64_t b) { return node_of[a] != node_of[b] ? node_of[a] < node_of[b] : a < b; });
  int64_t groups = 0;
  for (int64_t i = 0; i < rows; ++i) {
    if (i > 0 && node_of[order[i]] == node_of[order[i - 1]]) continue;
    node[groups] = std::clamp<int64_t>(node_of[order[i]], 0, nodes - 1);
    offsets[groups++] = i;
  }
  std::fill(node + groups, node + rows, groups > 0 ? node[groups - 1] : 0);
  std::fill(offsets + groups, offsets + rows + 1, rows);
  return touched;
}

}  // namespace

TouchedRows touched_rows(const at::Tensor& index, int64_t nodes) {
  if (index.is_cpu()) return sorted_on_cpu(index, nodes);
  const int64_t rows = index.numel();
  auto [sorted, order] = at::sort(index, /*stable=*/true, /*dim=*/0, /*descending=*/false);
  const at::Tensor place = at::arange(rows + 1, index.options());
  if (rows == 0) return {sorted, order, place};
  // The group of each place in the order: the number of distinct values before its own.
  const at::Tensor starts = sorted.slice(0, 1).ne(sorted.slice(0, 0, -1));
  const at::Tensor group = at::constant_pad_nd(starts.cumsum(0), {1, 0});
  const at::Tensor offsets = at::searchsorted(group, place);
  const at::Tensor node = sorted.index_select(0, offsets.slice(0, 0, rows).clamp_max(rows - 1));
  return {node.clamp(0, nodes - 1), order, offsets};
}

std::optional<int64_t> touched_row_count(const at::Tensor& offsets) {
  if (!offsets.is_cpu() || at::isTensorSubclassLike(offsets)) return std::nullopt;
  const int64_t rows = offsets.numel() - 1;
  const int64_t* const begin = offsets.const_data_ptr<int64_t>();
  return std::lower_bound(begin, begin + rows, rows) - begin;
}

}  // namespace somvae
